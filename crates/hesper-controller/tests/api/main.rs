//! The REST API of a whole controller, over its own port.

mod crud;
mod enroll;
mod events;
mod guard;
mod limits;
mod lists;
mod process;
mod support;
