//! Where another router is: pure.
//!
//! QUIC follows a packet to a new address before that is proven: whoever copies packets of a link and sends the copies from an address of
//! its own, faster than the originals, has the connection there until QUIC finds that nobody answers. What nodes send to each other must
//! not go there meanwhile. So a new address counts only when the other router has answered a question that went nowhere else: a ping
//! with a random number, and no challenge of a path between the question and the look after the answer. QUIC sends a challenge when it
//! leaves a proven path, and with every packet to an address that has not answered one.

use crate::table::Place;

/// Looks after which a question is asked again: it may not have found room.
const ASK_AGAIN: u32 = 4;

/// What is seen of a link's connection at one look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    /// Where QUIC has it now.
    pub(crate) place: Place,
    /// Challenges of paths that were sent since it began.
    pub(crate) challenges: u64,
}

/// What is made of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is where it was.
    Same,
    /// It may be elsewhere: send a ping with this number.
    Ask(u64),
    /// It may be elsewhere, and has been asked.
    Wait,
    /// It is elsewhere.
    Moved(Place),
}

#[derive(Debug)]
struct Question {
    place: Place,
    challenges: u64,
    nonce: u64,
    looks: u32,
    answered: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Whereabouts {
    proven: Place,
    question: Option<Question>,
}

impl Whereabouts {
    /// A router that has just shaken hands from there.
    pub(crate) fn new(proven: Place) -> Self {
        Self { proven, question: None }
    }

    /// Where it is as far as is proven.
    pub(crate) fn proven(&self) -> Place {
        self.proven
    }

    /// One look; `nonce` is random, for a question that may be due.
    pub(crate) fn look(&mut self, sight: Sight, nonce: u64) -> Finding {
        if sight.place == self.proven {
            self.question = None;
            return Finding::Same;
        }
        let same = |q: &&mut Question| (q.place, q.challenges) == (sight.place, sight.challenges);
        match self.question.as_mut().filter(same) {
            Some(question) if question.answered => {
                self.proven = sight.place;
                self.question = None;
                Finding::Moved(sight.place)
            }
            Some(question) => {
                question.looks += 1;
                if question.looks % ASK_AGAIN == 0 { Finding::Ask(question.nonce) } else { Finding::Wait }
            }
            None => {
                let Sight { place, challenges } = sight;
                self.question = Some(Question { place, challenges, nonce, looks: 0, answered: false });
                Finding::Ask(nonce)
            }
        }
    }

    /// The other router has answered a ping.
    pub(crate) fn answered(&mut self, nonce: u64) {
        if let Some(question) = self.question.as_mut().filter(|q| q.nonce == nonce) {
            question.answered = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(port: u16) -> Place {
        Place { address: ([192, 0, 2, 1], port).into(), local_ip: None }
    }

    fn sight(port: u16, challenges: u64) -> Sight {
        Sight { place: at(port), challenges }
    }

    #[test]
    fn a_router_that_moved_is_followed_when_it_has_answered_from_there() {
        let mut link = Whereabouts::new(at(1));
        assert_eq!(link.look(sight(1, 0), 1), Finding::Same);
        assert_eq!(link.look(sight(2, 1), 2), Finding::Ask(2));
        assert_eq!(link.look(sight(2, 2), 3), Finding::Ask(3), "the second challenge had not been sent yet");
        link.answered(2);
        assert_eq!(link.look(sight(2, 2), 4), Finding::Wait, "that may have gone elsewhere");
        assert_eq!(link.proven(), at(1));
        link.answered(3);
        assert_eq!(link.look(sight(2, 2), 5), Finding::Moved(at(2)));
        assert_eq!((link.look(sight(2, 2), 6), link.proven()), (Finding::Same, at(2)));
    }

    #[test]
    fn where_nobody_answers_it_is_not_and_it_is_asked_again() {
        let mut link = Whereabouts::new(at(1));
        let found: Vec<_> = (7..).map(|nonce| link.look(sight(2, 1), nonce)).take(9).collect();
        let asked: Vec<_> = found.iter().filter(|f| **f == Finding::Ask(7)).collect();
        assert_eq!((asked.len(), found[0], found[4]), (3, Finding::Ask(7), Finding::Ask(7)));
        assert_eq!(link.look(sight(1, 1), 0), Finding::Same, "QUIC has come back");
        link.answered(7);
        assert_eq!(link.look(sight(2, 2), 8), Finding::Ask(8), "another time, another question");
    }

    /// What may happen between looks. Packets come from port 1, where the router is, or from any other, where somebody copies them first.
    #[derive(Clone, Debug)]
    enum Event {
        /// A packet arrives, and QUIC follows it.
        Packet {
            port: u16,
        },
        /// QUIC sends what it has to send, also again.
        Send,
        /// The answer to the challenge of the path.
        Validated,
        /// There was none: QUIC returns to the path before.
        Back,
        /// The router's answer to the ping, if it has heard one.
        Answer {
            port: u16,
        },
        Look,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            2 => (1u16..4).prop_map(|port| Event::Packet { port }),
            3 => Just(Event::Send),
            1 => Just(Event::Validated),
            1 => Just(Event::Back),
            2 => (1u16..4).prop_map(|port| Event::Answer { port }),
            3 => Just(Event::Look),
        ];
        proptest::collection::vec(event, 0..100)
    }

    /// A connection as QUIC keeps it.
    #[derive(Debug)]
    struct Connection {
        now: u16,
        proven: u16,
        /// Not yet answered, and whether it has been sent.
        challenge: Option<bool>,
        challenges: u64,
    }

    impl Connection {
        fn packet(&mut self, port: u16) {
            if port != self.now {
                if self.challenge.is_none() {
                    (self.proven, self.challenges) = (self.now, self.challenges + 1);
                }
                (self.now, self.challenge) = (port, Some(false));
            }
        }
    }

    proptest! {
        /// However packets are copied, and wherever the answers seem to come from: a place where the router does not hear is never
        /// taken for its own.
        #[test]
        fn a_place_where_the_router_does_not_hear_is_never_proven(events in events(), ears in 1u16..3) {
            let hears = |port: u16| port <= ears;
            let mut link = Whereabouts::new(at(1));
            let mut quic = Connection { now: 1, proven: 1, challenge: None, challenges: 0 };
            let (mut asked, mut heard, mut nonce) = (None, None, 0);
            for event in events {
                match event {
                    Event::Packet { port } => quic.packet(port),
                    Event::Send => {
                        if let Some(sent) = &mut quic.challenge {
                            (*sent, quic.challenges) = (true, quic.challenges + 1);
                        }
                        heard = asked.filter(|_| hears(quic.now)).or(heard);
                    }
                    Event::Validated if quic.challenge == Some(true) && hears(quic.now) => quic.challenge = None,
                    Event::Back if quic.challenge.is_some() => (quic.now, quic.challenge) = (quic.proven, None),
                    Event::Validated | Event::Back => {}
                    Event::Answer { port } => if let Some(said) = heard {
                        quic.packet(port);
                        link.answered(said);
                    },
                    Event::Look => {
                        nonce += 1;
                        match link.look(Sight { place: at(quic.now), challenges: quic.challenges }, nonce) {
                            Finding::Ask(n) => asked = Some(n),
                            Finding::Moved(to) => prop_assert!(hears(to.address.port()), "{to:?}"),
                            Finding::Same | Finding::Wait => {}
                        }
                    }
                }
            }
        }

        /// And a router that has moved is found, whatever went before.
        #[test]
        fn a_router_that_has_moved_is_found(flips in proptest::collection::vec((1u16..4, 0u64..3), 0..9)) {
            let (mut link, mut challenges) = (Whereabouts::new(at(1)), 0);
            for (nonce, (port, more)) in flips.into_iter().enumerate() {
                challenges += more;
                link.look(sight(port, challenges), nonce as u64);
            }
            for nonce in 100..103 {
                if let Finding::Ask(said) = link.look(sight(9, challenges), nonce) {
                    link.answered(said);
                }
            }
            prop_assert_eq!(link.proven(), at(9));
        }
    }
}
