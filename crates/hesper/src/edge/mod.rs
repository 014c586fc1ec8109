//! What the management commands do: requests to the controller, and the words and columns of their answers.

pub(crate) mod draft;
pub(crate) mod enrollment;
pub(crate) mod events;
pub(crate) mod kinds;
pub(crate) mod manifest;
pub(crate) mod requests;
