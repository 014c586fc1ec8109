//! Which pod sent this: attributes of Kubernetes on the resources of telemetry (`k8sattributes`).
//!
//! The core is tables without clock or socket: [`pod`] reads what is wanted of a pod ([`rules`], [`image`]), [`table`] keeps pods and what they belong to,
//! and finds the pod of a resource ([`association`]): by the sender's address, which stays with a batch over all gateways, or by
//! attributes. `enrich` sets what is not set yet, and never an attribute under `hesper.`.
//!
//! Around it `watch` follows the API of Kubernetes (`client`) and goes on after every error. What it may not read it tells once, and does without.
//! Outside Kubernetes there is nothing to follow: then data passes as it is, unless the settings are `strict`.

pub mod association;
mod client;
mod enrich;
pub mod image;
pub mod pod;
mod processor;
pub mod rules;
pub mod table;
mod watch;

pub use client::{Access, AccessError};
pub use processor::{Counted, KubernetesAttributes, StartError};

#[cfg(test)]
mod tests;
