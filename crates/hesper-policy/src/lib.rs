//! Work starts here.
