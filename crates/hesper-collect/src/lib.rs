//! `hesper collect`: a Collector whose network is the mesh.
//!
//! - [`files`]: the configuration's files, and `--check`'s words about them.
//! - [`mesh`]: `hesper://SERVICE` for receivers and exporters: bound services and dialed streams.
//! - [`provenance`]: whose data a batch is, and what is stamped on it.

pub mod files;
pub mod mesh;
pub mod provenance;
