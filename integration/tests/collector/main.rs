//! `hesper collect` from outside, between real peers: SDKs, Collectors, receivers that know what was acknowledged.

mod article;
mod ground;
mod kill;
mod kubernetes;
mod overload;
mod peers;
mod prometheus;
mod queue;
mod reload;
mod revoked;
mod spoof;
