use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn nobody() -> Out {
    Out::default()
}

fn at(phase: Phase) -> Rotation {
    let started = Rotation::standby("a").step(Step::Start("b".into()), &nobody(), false).unwrap();
    let issuing = || started.step(Step::Issue, &nobody(), false).unwrap();
    match phase {
        Phase::Standby => Rotation::standby("a"),
        Phase::Started => started,
        Phase::Issuing => issuing(),
        Phase::RollingBack => issuing().step(Step::Rollback, &nobody(), false).unwrap(),
    }
}

#[test]
fn the_table_of_phases_and_steps() {
    use Phase::*;
    let start = || Step::Start("c".into());
    for (from, step, to) in [
        (Standby, start(), Some((Started, "a"))),
        (Standby, Step::Issue, None),
        (Standby, Step::Finish, None),
        (Standby, Step::Rollback, None),
        (Started, start(), None),
        (Started, Step::Issue, Some((Issuing, "b"))),
        (Started, Step::Finish, None),
        (Started, Step::Rollback, Some((Standby, "a"))),
        (Issuing, start(), None),
        (Issuing, Step::Issue, None),
        (Issuing, Step::Finish, Some((Standby, "b"))),
        (Issuing, Step::Rollback, Some((RollingBack, "a"))),
        (RollingBack, start(), None),
        (RollingBack, Step::Issue, Some((Issuing, "b"))),
        (RollingBack, Step::Finish, Some((Standby, "a"))),
        (RollingBack, Step::Rollback, None),
    ] {
        let found = at(from).step(step.clone(), &nobody(), false).ok();
        let found = found.as_ref().map(|r| (r.phase(), r.issuing().as_str()));
        assert_eq!(found, to, "{step:?} in {from}");
    }
}

#[test]
fn refusals_name_who_is_in_the_way_and_force_does_not_ask() {
    let out = Out { untold: vec!["kube".into()], holders: (0..12).map(|i| format!("n{i}")).collect() };
    let refused = at(Phase::Started).step(Step::Issue, &out, false).unwrap_err().to_string();
    assert!(refused.starts_with("1 of those") && refused.contains("kube"), "{refused}");
    let refused = at(Phase::Issuing).step(Step::Finish, &out, false).unwrap_err().to_string();
    assert!(
        refused.starts_with("12 certificates") && refused.contains("n9, …") && !refused.contains("n10"),
        "{refused}"
    );
    assert!(at(Phase::Started).step(Step::Issue, &out, true).is_ok());
    assert!(at(Phase::Issuing).step(Step::Finish, &out, true).is_ok());
    assert!(at(Phase::Started).step(Step::Rollback, &out, false).is_ok(), "nobody has a leaf of it");
}

#[test]
fn it_is_kept_as_json() {
    for phase in [Phase::Standby, Phase::Started, Phase::Issuing, Phase::RollingBack] {
        let text = serde_json::to_string(&at(phase)).unwrap();
        assert_eq!(serde_json::from_str::<Rotation>(&text).unwrap(), at(phase), "{text}");
        assert!(text.contains(&phase.to_string()), "{text}");
    }
}

/// A node or router: what it trusts, whose leaf it holds, and whether it is in touch with the controller.
#[derive(Clone, Debug)]
struct Party {
    trusts: BTreeSet<CaId>,
    leaf: CaId,
    online: bool,
}

#[derive(Clone, Debug)]
enum Event {
    Start,
    Issue,
    Finish,
    Rollback,
    /// The controller's word arrives: trust is taken over.
    Hears(usize),
    /// A renewal, whose answer may be lost.
    Renews(usize),
    Leaves(usize),
    Returns(usize),
    Enrolls,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Start),
        3 => Just(Event::Issue),
        3 => Just(Event::Finish),
        1 => Just(Event::Rollback),
        10 => any::<usize>().prop_map(Event::Hears),
        10 => any::<usize>().prop_map(Event::Renews),
        1 => any::<usize>().prop_map(Event::Leaves),
        2 => any::<usize>().prop_map(Event::Returns),
        1 => Just(Event::Enrolls),
    ]
}

struct World {
    rotation: Rotation,
    parties: Vec<Party>,
    made: u32,
}

impl World {
    fn fresh(&self) -> Party {
        let trusts = self.rotation.trusted().cloned().collect();
        Party { trusts, leaf: self.rotation.issuing().clone(), online: true }
    }

    fn out(&self) -> Out {
        let named = |wanted: &dyn Fn(&Party) -> bool| {
            let found = self.parties.iter().enumerate().filter(|(_, p)| wanted(p));
            found.map(|(i, _)| i.to_string()).collect()
        };
        Out {
            untold: named(&|p| p.online && self.rotation.next().is_some_and(|next| !p.trusts.contains(next))),
            holders: named(&|p| self.rotation.leaving() == Some(&p.leaf)),
        }
    }

    fn step(&mut self, step: Step) {
        if let Ok(next) = self.rotation.step(step, &self.out(), false) {
            self.rotation = next;
        }
    }

    fn happen(&mut self, event: Event) {
        let (count, rotation) = (self.parties.len(), self.rotation.clone());
        match event {
            Event::Start => {
                self.made += 1;
                self.step(Step::Start(format!("ca{}", self.made)));
            }
            Event::Issue => self.step(Step::Issue),
            Event::Finish => self.step(Step::Finish),
            Event::Rollback => self.step(Step::Rollback),
            Event::Hears(i) => {
                let trusts = rotation.trusted().cloned().collect();
                let party = &mut self.parties[i % count];
                if party.online {
                    party.trusts = trusts;
                }
            }
            Event::Renews(i) => {
                let party = &mut self.parties[i % count];
                if party.online {
                    party.trusts.insert(rotation.issuing().clone());
                    party.leaf = rotation.issuing().clone();
                }
            }
            Event::Leaves(i) => self.parties[i % count].online = false,
            // Whoever comes back is told before it meets anybody.
            Event::Returns(i) => {
                let trusts = rotation.trusted().cloned().collect();
                let party = &mut self.parties[i % count];
                (party.online, party.trusts) = (true, trusts);
            }
            Event::Enrolls => self.parties.push(self.fresh()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is done in whatever order, everybody who is online accepts everybody's leaf, and the controller accepts everybody's,
    /// those who are offline included.
    #[test]
    fn every_valid_leaf_is_accepted_by_everybody(events in proptest::collection::vec(event(), 1..120)) {
        let rotation = Rotation::standby("ca0");
        let mut world = World { rotation, parties: Vec::new(), made: 0 };
        world.parties = vec![world.fresh(); 4];
        for event in events {
            world.happen(event.clone());
            for p in &world.parties {
                prop_assert!(world.rotation.trusts(&p.leaf), "{event:?}: the controller refuses {p:?}");
                if p.online {
                    prop_assert!(world.rotation.trusted().any(|ca| p.trusts.contains(ca)), "{event:?}: {p:?} is lost");
                    for q in world.parties.iter().filter(|q| q.online) {
                        prop_assert!(p.trusts.contains(&q.leaf), "{event:?}: {p:?} refuses {q:?}");
                    }
                }
            }
        }
    }
}
