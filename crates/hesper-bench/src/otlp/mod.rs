//! OTLP for measuring collectors: requests that are made once ([`payload`]), sent as fast as they are taken ([`load`]), and
//! counted where they arrive ([`sink`]). All of it on processors that the measured program does not use.

pub(crate) mod load;
pub(crate) mod payload;
pub(crate) mod sink;

use std::io;
use tokio::runtime::{Builder, Runtime};

/// A runtime on every processor but the first, which belongs to the measured program.
pub(crate) fn runtime() -> io::Result<Runtime> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let mut builder = Builder::new_multi_thread();
    builder.enable_all().worker_threads(2).on_thread_start(|| {
        let Ok(allowed) = sched_getaffinity(None) else { return };
        let mut own = CpuSet::new();
        (1..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).for_each(|cpu| own.set(cpu));
        // With one processor there is nothing to choose.
        if own.count() > 0 {
            let _ = sched_setaffinity(None, &own);
        }
    });
    builder.build()
}
