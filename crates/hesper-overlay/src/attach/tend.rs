//! Looking after a live attachment: pings and what they show, the round trip, and when to leave.

use super::{
    AttachError, RouterLine, Status, Task,
    conversation::Talk,
    pulse::{Beat, Seen},
};
use crate::{control::heard, paths::Standing};
use std::time::{Duration, Instant};

/// How long nothing may have gone by a draining router before it is left: what is under way arrives.
const LEAVE_AFTER: Duration = Duration::from_secs(1);
/// How often a changed round trip is published, and from which change on (a quarter, and at least this).
const RTT_EVERY: Duration = Duration::from_secs(2);
const RTT_CHANGE: Duration = Duration::from_millis(1);

impl Task {
    /// Is the router there, how far away is it, and is it time to leave it? Returns how soon to look again.
    pub(super) async fn look(
        &mut self,
        line: &mut RouterLine,
        talk: &mut Talk,
    ) -> Result<Duration, AttachError> {
        let now = Instant::now();
        // Before it is read: what is carried from here on is seen now, or stirs.
        if !line.pulse.is_busy(now) {
            self.node.socket.set_quiet(self.slot);
        }
        let carried = self.node.socket.carried(self.slot);
        let rtt = line.connection.rtt();
        let (beats, next) = line.pulse.look(now, Seen { heard: heard(&line.connection), carried, rtt });
        self.act(beats, talk).await?;
        self.publish_rtt(now, talk.round_trip().unwrap_or(rtt));
        self.leave_early(now, carried)?;
        Ok(next)
    }

    pub(super) async fn act(&mut self, beats: Vec<Beat>, talk: &mut Talk) -> Result<(), AttachError> {
        for beat in beats {
            match beat {
                Beat::Ping => talk.ping().await?,
                Beat::Silent => self.stand(Standing::Down),
                Beat::Alive if self.is_draining() => self.stand(Standing::Draining),
                Beat::Alive => self.stand(Standing::Up),
                Beat::GiveUp => return Err(AttachError::Silent),
            }
        }
        Ok(())
    }

    fn is_draining(&self) -> bool {
        *self.status.borrow() == Status::Draining
    }

    fn publish_rtt(&mut self, now: Instant, rtt: Duration) {
        let Status::Attached(old) = *self.status.borrow() else { return };
        let change = rtt.abs_diff(old);
        if change >= RTT_CHANGE.max(old / 4) && now >= self.rtt_at + RTT_EVERY {
            self.rtt_at = now;
            self.status.send_replace(Status::Attached(rtt));
            self.node.attachments_changed();
        }
    }

    /// A draining router that no peer uses any more is left, so that its drain ends early; unless it is our only one.
    fn leave_early(&mut self, now: Instant, carried: u64) -> Result<(), AttachError> {
        let (used, another) = self.node.socket.read(|t| (t.is_used(self.slot), t.is_any_up_but(self.slot)));
        if !self.is_draining() || used || !another || carried != self.carried {
            (self.carried, self.unused_since) = (carried, now);
        }
        if now >= self.unused_since + LEAVE_AFTER { Err(AttachError::Left) } else { Ok(()) }
    }
}
