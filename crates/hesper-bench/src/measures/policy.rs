//! A change of policy until its effect: from the administrator's request to the last node that had to be told.
//!
//! The nodes are watches with an identity, a certificate and a connection each; they attach to no router.

use super::Effort;
use crate::{bulk, report::Recorder, stack::Stack, subjects::Surroundings, watch::Watch};
use anyhow::{Context, Result, bail};
use hesper_pki::identity_file::IdentityFile;
use hesper_proto::control::NodeState;
use reqwest::Method;
use serde_json::json;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};

/// Watches that are opened at the same time.
const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);
/// The services, and the bits under which a node's view of them is noted.
const BITS: [(&str, u8); 2] = [("one", 1), ("all", 2)];
const ROLE: &str = "watching";

/// What the nodes have been told.
#[derive(Default)]
struct Board {
    seen: Vec<AtomicU8>,
    /// How many see the service of each bit.
    count: [AtomicUsize; 2],
    last: Mutex<Option<Instant>>,
}

impl Board {
    fn note(&self, node: usize, state: &NodeState) {
        let of = |name: &str| state.services.iter().any(|s| s.name == name && s.may_dial);
        let now = BITS.iter().filter(|(name, _)| of(name)).fold(0, |bits, (_, bit)| bits | bit);
        let before = self.seen[node].swap(now, SeqCst);
        if now == before {
            return;
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        for (count, (_, bit)) in self.count.iter().zip(BITS) {
            match (before & bit != 0, now & bit != 0) {
                (false, true) => drop(count.fetch_add(1, SeqCst)),
                (true, false) => drop(count.fetch_sub(1, SeqCst)),
                _ => {}
            }
        }
    }

    /// Waits until the service of this bit is seen by `wanted` nodes; milliseconds from `begun` until the last was told.
    async fn until(&self, index: usize, wanted: usize, begun: Instant) -> Result<f64> {
        while self.count[index].load(SeqCst) != wanted {
            if begun.elapsed() > PATIENCE {
                bail!("{} instead of {wanted} nodes see the service", self.count[index].load(SeqCst));
            }
            sleep(POLL).await;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(begun);
        Ok(last.saturating_duration_since(begun).as_secs_f64() * 1e3)
    }
}

pub(super) async fn run(around: &Surroundings, effort: &Effort, to: &mut Recorder) -> Result<()> {
    for count in &effort.policy_identities {
        if let Err(error) = one_size(around, *count, effort.rounds, to).await {
            to.skip(&format!("policy with {count} identities"), &format!("{error:#}"));
        }
    }
    Ok(())
}

async fn one_size(around: &Surroundings, count: usize, rounds: usize, to: &mut Recorder) -> Result<()> {
    let mut stack = Stack::start(&around.hesper).await?;
    let files = bulk::identities(&mut stack, "watching", ROLE, count).await?;
    let ids: Vec<String> =
        files.iter().map(|file| Ok(file.credentials()?.id.id.clone())).collect::<Result<_>>()?;
    for service in ["one", "all"] {
        stack.cli(["create", "service", service])?;
    }
    stack.allow("Dial", "one", &format!("#{ROLE}"))?;
    let api = stack.api().await?;
    let board = Arc::new(Board { seen: (0..count).map(|_| AtomicU8::new(0)).collect(), ..Board::default() });
    let _watches = watch_all(files, &board).await?;
    board.until(0, count, Instant::now()).await.context("before the first change")?;
    let part = count.to_string();
    for round in 0..rounds {
        let path = format!("identities/{}", ids[round % count]);
        let begun = Instant::now();
        api.call(Method::PATCH, &path, Some(&json!({"roleAttributes": []}))).await?;
        to.add("policy_one", "hesper", &part, round, board.until(0, count - 1, begun).await?);
        api.call(Method::PATCH, &path, Some(&json!({"roleAttributes": [ROLE]}))).await?;
        board.until(0, count, Instant::now()).await?;

        let policy = json!({"name": "all.dial", "type": "Dial", "semantic": "AnyOf", "serviceRoles": ["#all"], "identityRoles": [format!("#{ROLE}")]});
        let begun = Instant::now();
        let made = api.call(Method::POST, "service-policies", Some(&policy)).await?;
        to.add("policy_all", "hesper", &part, round, board.until(1, count, begun).await?);
        let id = made["id"].as_str().context("the policy's id")?;
        api.call(Method::DELETE, &format!("service-policies/{id}"), None).await?;
        board.until(1, 0, Instant::now()).await?;
    }
    Ok(())
}

async fn watch_all(files: Vec<IdentityFile>, board: &Arc<Board>) -> Result<JoinSet<()>> {
    let (mut following, mut opening) = (JoinSet::new(), JoinSet::new());
    let mut files = files.into_iter().enumerate();
    loop {
        while opening.len() < AT_ONCE
            && let Some((n, file)) = files.next()
        {
            opening.spawn(async move { Watch::open(&file).await.map(|watch| (n, watch)) });
        }
        let Some(opened) = opening.join_next().await else { return Ok(following) };
        let (n, mut watch) = opened??;
        board.note(n, &watch.first);
        let board = board.clone();
        following.spawn(async move {
            while let Ok(state) = watch.next().await {
                board.note(n, &state);
            }
        });
    }
}
