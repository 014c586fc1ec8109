//! What was found out about passwords whose check is costly: bcrypt takes a tenth of a second, and a sender comes a thousand times
//! a second with the same one.

use hesper_otlp::Refusal;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    sync::{OnceCell, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

/// Right passwords that are remembered: more senders than one gateway has.
const MAX_RIGHT: usize = 4096;
/// Wrong passwords that are remembered, with those that are being checked, so that a sender with a wrong one costs nothing more.
/// They are apart, so that guessing displaces no right one.
const MAX_OTHERS: usize = 1024;
/// Checks that wait for their turn; more are sent away.
const MAX_WAITING: usize = 256;
/// How long a check waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

type Digest = [u8; 32];
type Cell = Arc<OnceCell<bool>>;

/// Lets only so many costly checks run at once: half of the processors, so that the rest can go on.
pub(super) struct Gate {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self { free: Arc::new(Semaphore::new(processors.div_ceil(2))), waiting: AtomicUsize::new(0) }
    }
}

impl Gate {
    async fn run(&self, check: impl FnOnce() -> bool + Send + 'static) -> Result<bool, Refusal> {
        let busy = || Refusal::Overloaded {
            reason: "too many passwords are being checked".into(),
            after: Duration::from_secs(1),
        };
        let waiting = Waiting::new(&self.waiting);
        if waiting.number > MAX_WAITING {
            return Err(busy());
        }
        let turn = timeout(PATIENCE, self.free.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        drop(waiting);
        let checked = spawn_blocking(move || {
            // A caller that goes away does not end the check, so its turn ends with the check only.
            let _turn = turn;
            check()
        });
        checked.await.map_err(|_| Refusal::Internal("the check of a password failed".into()))
    }
}

/// One that waits, until it is dropped.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    number: usize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Self { count, number: count.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What was found out.
#[derive(Default)]
pub(super) struct Verdicts(Mutex<Known>);

#[derive(Default)]
struct Known {
    right: Bounded<MAX_RIGHT>,
    others: Bounded<MAX_OTHERS>,
}

impl Verdicts {
    /// The verdict about one password of one user. Of those that ask at the same time, one runs the check.
    ///
    /// # Errors
    /// Too much is being checked already.
    pub(super) async fn of(
        &self,
        digest: Digest,
        gate: &Gate,
        check: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<bool, Refusal> {
        let cell = self.lock().cell(digest);
        let is_new = !cell.initialized();
        let verdict = *cell.get_or_try_init(|| gate.run(check)).await?;
        if verdict && is_new {
            self.lock().keep(digest, cell);
        }
        Ok(verdict)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn cell(&mut self, digest: Digest) -> Cell {
        match self.right.cells.get(&digest) {
            Some(cell) => cell.clone(),
            None => self.others.get_or_insert(digest, Cell::default()),
        }
    }

    /// It is a right one.
    fn keep(&mut self, digest: Digest, cell: Cell) {
        self.others.remove(&digest);
        self.right.get_or_insert(digest, cell);
    }
}

/// At most so many; the oldest one makes room.
#[derive(Default)]
struct Bounded<const MAX: usize> {
    cells: HashMap<Digest, Cell>,
    order: VecDeque<Digest>,
}

impl<const MAX: usize> Bounded<MAX> {
    fn get_or_insert(&mut self, digest: Digest, cell: Cell) -> Cell {
        if let Some(found) = self.cells.get(&digest) {
            return found.clone();
        }
        if self.order.len() >= MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.cells.remove(&oldest);
        }
        self.order.push_back(digest);
        self.cells.insert(digest, cell.clone());
        cell
    }

    fn remove(&mut self, digest: &Digest) {
        if self.cells.remove(digest).is_some() {
            self.order.retain(|found| found != digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest
    }

    #[tokio::test]
    async fn many_that_ask_at_once_cost_one_check() {
        let (verdicts, gate, runs) = (Verdicts::default(), Gate::default(), Arc::new(AtomicUsize::new(0)));
        for verdict in [true, false] {
            runs.store(0, Ordering::Relaxed);
            let ask = || {
                let runs = runs.clone();
                verdicts.of(digest(usize::from(verdict)), &gate, move || {
                    runs.fetch_add(1, Ordering::Relaxed);
                    verdict
                })
            };
            let answers = futures::future::join_all((0..1000).map(|_| ask())).await;
            assert!(answers.into_iter().all(|answer| answer == Ok(verdict)));
            assert_eq!(ask().await, Ok(verdict));
            assert_eq!(runs.load(Ordering::Relaxed), 1);
        }
    }

    #[tokio::test]
    async fn guessing_displaces_no_right_password() {
        let (verdicts, gate) = (Verdicts::default(), Gate::default());
        assert_eq!(verdicts.of(digest(0), &gate, || true).await, Ok(true));
        for n in 1..=MAX_OTHERS + 1 {
            assert_eq!(verdicts.of(digest(n), &gate, || false).await, Ok(false));
        }
        {
            let known = verdicts.lock();
            assert_eq!((known.others.cells.len(), known.others.order.len()), (MAX_OTHERS, MAX_OTHERS));
        }
        let again = verdicts.of(digest(0), &gate, || panic!("it is known")).await;
        assert_eq!(again, Ok(true));
    }

    #[tokio::test]
    async fn more_than_may_wait_are_sent_away_and_may_come_again() {
        let (verdicts, gate) = (Arc::new(Verdicts::default()), Arc::new(Gate::default()));
        let all = gate.free.available_permits();
        let held =
            gate.free.clone().acquire_many_owned(u32::try_from(all).expect("few")).await.expect("open");
        let ask = |n| {
            let (verdicts, gate) = (verdicts.clone(), gate.clone());
            tokio::spawn(async move { verdicts.of(digest(n), &gate, || true).await })
        };
        let waiting: Vec<_> = (0..MAX_WAITING).map(ask).collect();
        while gate.waiting.load(Ordering::Relaxed) < MAX_WAITING {
            tokio::task::yield_now().await;
        }
        let refused = ask(MAX_WAITING).await.expect("no panic");
        assert!(matches!(refused, Err(Refusal::Overloaded { .. })));
        drop(held);
        for task in waiting {
            assert_eq!(task.await.expect("no panic"), Ok(true));
        }
        assert_eq!(ask(MAX_WAITING).await.expect("no panic"), Ok(true));
    }
}
