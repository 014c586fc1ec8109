//! The way of a batch from a pipeline to each of its destinations.
//!
//! A [`Delivery`] has a queue for each destination: those that name a `file_storage` read one common log on disk (`store`), others have
//! one in memory (`memory`), and a destination without a queue is sent to before the sender is answered. [`Delivery::accept`] ends
//! when the batch is safe with all of them (`accept`); batches of other gateways are taken once (`arrivals`, `seen`).
//!
//! Behind the queue each destination has a worker (`worker`): it takes batches in order, puts them together or divides them (`merge`),
//! and keeps some deliveries under way (`ship`), each of which is tried until it arrives (`retry`). A slow destination delays nobody but itself.
//!
//! What became of every item is in the [`ledger`]: for each destination, accepted = delivered + queued + dropped. Beside a log
//! it is a file, which is written before the log is told what need not be kept (`desk`): the ledger is exact after a crash, and a batch that
//! is delivered twice then is counted once.
//!
//! What is under way or being put together is bounded in bytes; what is queued by the queue's size, and in memory by bytes too.

mod accept;
mod arrivals;
mod counters;
mod desk;
mod error;
mod files;
mod item;
mod lane;
pub mod ledger;
mod memory;
mod merge;
mod numbers;
mod pipeline;
mod plan;
mod retry;
mod seen;
mod settings;
mod ship;
mod source;
mod store;
mod trouble;
mod worker;

#[cfg(test)]
mod tests;

pub use counters::{DestinationStats, Distributions, QueueKind};
pub use error::OpenError;
pub use ledger::{DropReason, Party, Row};
pub use pipeline::{Delivery, Left};
pub use plan::{Destination, Merge, Plan, Storage};
pub use store::read_ledger;
