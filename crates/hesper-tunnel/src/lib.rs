//! Puts unmodified programs on the mesh, without root.
pub mod app_data;
pub mod names;
pub mod plan;
pub mod sd;
pub mod service;
pub mod target;

#[cfg(test)]
mod testing;
