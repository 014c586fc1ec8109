//! Looks after one peer connection: tells `path_watch` what happens, and does what it says. One light task each, on both sides.
//!
//! The dialing side chooses among the routers that its passes name, and tells the hosting side, which answers by the routers that it was told;
//! packets of a peer whose session no grant has proved go where its handshake came from.

use crate::{
    control::Line,
    node::{Inner, lock},
    path_watch::{Effect, PathWatch, Route, Signs},
    paths::{Slot, Standing},
    transport::close,
};
use hesper_model::id::Tag;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// A way that came up brings several events in a row; one probe answers them all.
const SETTLE: Duration = Duration::from_millis(50);
/// How often a better router is asked whether the peer is attached there by now.
const ASK_ROUTER_EVERY: Duration = Duration::from_secs(5);

/// The lines to each session, so that what a router says of it reaches them.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<HashMap<Tag, Vec<Known>>>);

/// A line, and whether we dialed it.
type Known = (bool, Weak<Line>);

impl Lines {
    fn add(&self, tag: Tag, leads: bool, line: &Arc<Line>) {
        lock(&self.0).entry(tag).or_default().push((leads, Arc::downgrade(line)));
    }

    fn remove(&self, tag: Tag, line: &Arc<Line>) {
        let mut lines = lock(&self.0);
        if let Some(of_tag) = lines.get_mut(&tag) {
            of_tag.retain(|(_, l)| !std::ptr::eq(l.as_ptr(), Arc::as_ptr(line)));
            if of_tag.is_empty() {
                lines.remove(&tag);
            }
        }
    }

    /// Do we dial this session ourselves? Then its word about paths to us does not matter: we choose.
    fn is_dialed(&self, tag: Tag) -> bool {
        lock(&self.0).get(&tag).is_some_and(|lines| lines.iter().any(|(leads, _)| *leads))
    }

    /// A router calls the session gone. Returns whether anybody is concerned.
    pub(crate) fn suspect(&self, tag: Tag) -> bool {
        let lines: Vec<_> = lock(&self.0).get(&tag).into_iter().flatten().map(|(_, l)| l.clone()).collect();
        lines.iter().filter_map(Weak::upgrade).for_each(|line| line.suspect());
        !lines.is_empty()
    }
}

/// A first router, and the routers of the other side behind it.
type Ways = Vec<(Slot, Vec<String>)>;

struct Keeper {
    line: Arc<Line>,
    leads: bool,
    watch: PathWatch,
    /// The session that the table and the lines know this line by.
    known_as: Option<Tag>,
    ways: Ways,
    current: Option<Slot>,
    /// What the other side was told, or told us.
    told: Vec<String>,
    asked_router_at: Instant,
}

/// Keeps a connection until it ends. `leads`: we dial. `avoid`: routers by which no connection could be made.
pub(crate) async fn keep(node: Weak<Inner>, line: Arc<Line>, leads: bool, avoid: Vec<Slot>) {
    let Some(mut paths) = node.upgrade().map(|n| n.paths()) else { return };
    let now = Instant::now();
    let mut keeper = Keeper {
        watch: PathWatch::new(now, leads, line.signs(now), &avoid),
        line,
        leads,
        known_as: None,
        ways: Ways::new(),
        current: None,
        told: Vec::new(),
        asked_router_at: now,
    };
    let mut changed = true;
    let mut ask_at = None;
    loop {
        let Some(node) = node.upgrade() else { return };
        let now = Instant::now();
        let ask = ask_at.take_if(|at| *at <= now).is_some();
        let mut next = keeper.look(&node, now, std::mem::take(&mut changed), ask);
        drop(node);
        if let Some(at) = ask_at {
            next = next.min(at - now);
        }
        tokio::select! {
            () = sleep(next) => {}
            () = keeper.line.wake.notified() => {}
            event = paths.changed() => {
                if event.is_err() {
                    break;
                }
                changed = true;
                ask_at.get_or_insert(Instant::now() + SETTLE);
            }
            _ = keeper.line.connection.closed() => break,
        }
    }
    if let (Some(node), Some(tag)) = (node.upgrade(), keeper.known_as) {
        node.lines.remove(tag, &keeper.line);
        node.socket.update(|t| t.unlead(tag));
        node.set_without_path(tag, false);
    }
}

impl Keeper {
    fn look(&mut self, node: &Inner, now: Instant, changed: bool, ask: bool) -> Duration {
        let orders = self.line.take_orders();
        let signs = self.line.signs(now);
        let fresh = self.known_as.is_none();
        let tag = self.introduce(node);
        let mut ask = ask || orders.suspect;
        if let Some(path) = orders.use_path.filter(|_| !self.leads) {
            self.told = path;
            self.follow(node);
            // The other side waits for a sign by this way.
            ask = true;
        } else if (changed || (fresh && tag.is_some())) && !self.leads {
            self.follow(node);
        }
        if changed && self.leads {
            self.find_ways(node, tag);
        }
        if orders.suspect {
            self.watch.suspect(now, signs);
        }
        if orders.traffic {
            self.watch.expect_traffic(now);
        }
        self.step(node, now, signs, ask)
    }

    fn step(&mut self, node: &Inner, now: Instant, signs: Signs, ask: bool) -> Duration {
        let routes = self.routes(node);
        let look = self.watch.look(now, signs, &routes, ask);
        for effect in look.effects {
            match effect {
                Effect::Probe => self.line.probe(),
                Effect::Use(slot) => self.go(node, slot),
                Effect::Trust => self.line.trust(),
                Effect::Close => {
                    tracing::debug!(peer = ?self.known_as, "the peer gives no sign of life");
                    self.line.close(close::GONE);
                }
            }
        }
        if self.leads && look.asking {
            self.line.repeat_path(self.told.clone());
        }
        if let Some(tag) = self.known_as.filter(|_| self.leads) {
            node.set_without_path(tag, look.without_path);
            self.ask_routers(node, now, tag, &routes);
        }
        look.next
    }

    /// As soon as the session at the other end is known, table and lines are told.
    fn introduce(&mut self, node: &Inner) -> Option<Tag> {
        let tag = self.line.tag()?;
        if self.known_as.replace(tag).is_none() {
            node.lines.add(tag, self.leads, &self.line);
            node.socket.update(|t| t.lead(tag));
        }
        Some(tag)
    }

    /// The hosting side answers by the routers that it was told, as far as it knows them.
    fn follow(&self, node: &Inner) {
        let Some(tag) = self.known_as.filter(|tag| !self.told.is_empty() && !node.lines.is_dialed(*tag))
        else {
            return;
        };
        let slots = node.slots(self.told.iter().map(String::as_str));
        node.socket.update(|t| t.prefer(tag, slots));
    }

    /// The dialing side takes the ways from its passes, as long as it has any.
    fn find_ways(&mut self, node: &Inner, tag: Option<Tag>) {
        let Some(tag) = tag else { return };
        let paths = node.passes().ways(tag);
        let mut ways = Ways::new();
        for path in &paths {
            let (Some(first), Some(last)) = (path.first(), path.last()) else { continue };
            let Some(slot) = node.slots([first.as_str()]).pop() else { continue };
            let at = ways.iter().position(|(s, _)| *s == slot).unwrap_or_else(|| {
                ways.push((slot, Vec::new()));
                ways.len() - 1
            });
            let behind = &mut ways[at].1;
            // The router delivers by itself what it can.
            let place = if path.len() == 1 { 0 } else { behind.len() };
            behind.insert(place, last.clone());
        }
        if !ways.is_empty() {
            self.ways = ways;
        }
        if let Some(current) = self.current {
            self.tell(node, current);
        }
    }

    fn routes(&self, node: &Inner) -> Vec<Route> {
        node.socket.read(|t| {
            if !self.leads {
                let standing = if t.any_up() { Standing::Up } else { Standing::Down };
                return vec![Route { slot: Slot(0), standing, absent: false }];
            }
            let absent = |slot| self.known_as.is_some_and(|tag| t.is_absent(tag, slot));
            let route = |slot| Route { slot, standing: t.standing(slot), absent: absent(slot) };
            self.ways.iter().map(|(slot, _)| route(*slot)).collect()
        })
    }

    fn go(&mut self, node: &Inner, slot: Slot) {
        if self.current.replace(slot) != Some(slot) {
            tracing::debug!(peer = ?self.known_as, router = slot.0, "path chosen");
        }
        self.told.clear();
        self.tell(node, slot);
    }

    /// Sets the order of routers, and tells the other side unless it knows.
    fn tell(&mut self, node: &Inner, current: Slot) {
        let Some(tag) = self.known_as else { return };
        let others = self.ways.iter().filter(|(s, _)| *s != current);
        let here = self.ways.iter().filter(|(s, _)| *s == current);
        let ordered: Vec<_> = here.chain(others).collect();
        let slots = ordered.iter().map(|(s, _)| *s).collect();
        node.socket.update(|t| t.prefer(tag, slots));
        let mut router_ids: Vec<String> = Vec::new();
        for id in ordered.into_iter().flat_map(|(_, behind)| behind) {
            if !router_ids.contains(id) {
                router_ids.push(id.clone());
            }
        }
        if router_ids != self.told {
            self.told.clone_from(&router_ids);
            self.line.use_path(router_ids);
        }
    }

    /// A router better than the current one said that the peer is not there: it may have come since.
    fn ask_routers(&mut self, node: &Inner, now: Instant, tag: Tag, routes: &[Route]) {
        if now < self.asked_router_at + ASK_ROUTER_EVERY {
            return;
        }
        self.asked_router_at = now;
        let better = routes.iter().take_while(|r| Some(r.slot) != self.current);
        for route in better.filter(|r| r.absent && r.standing == Standing::Up) {
            node.ask_again(tag, route.slot);
        }
    }
}
