//! The router.

mod drops;
mod outage;
mod replay;
mod split;
mod table;
