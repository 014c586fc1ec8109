//! Scrapes of real targets in this process: what is asked, what comes of it, and who disturbs whom.

mod answers;
mod discovery;
mod reload;
mod support;
