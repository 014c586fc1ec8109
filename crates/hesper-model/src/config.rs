//! The built-in config types.
