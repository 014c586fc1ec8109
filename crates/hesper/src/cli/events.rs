//! `events`: who was let do what and who was not, and what became of the network.

use super::flags::ApiArgs;
use crate::{
    api_client::Session,
    edge::events::{self, Shown},
    serve::Stop,
};
use anyhow::Result;
use clap::Args;
use hesper_controller::validity::Span;

/// Most events that a controller keeps.
const KEPT: u64 = hesper_observe::events::EVENTS_KEPT as u64;

/// Shows events.
#[derive(Args, Debug)]
#[command(
    after_help = "Each line: time, event, outcome, who, service, and the rule that decided or what else there is to say. \
    A controller keeps its last 4096 events for this; all of them are in its audit file."
)]
pub(crate) struct EventsArgs {
    /// Go on with those that happen, across restarts of the controller, until Ctrl-C
    #[arg(short = 'f', long)]
    follow: bool,
    /// At most so many of the past
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=KEPT))]
    last: u64,
    /// Only these: a name such as dial, or a namespace such as circuit; repeatable
    #[arg(long, value_name = "EVENT", value_delimiter = ',')]
    event: Vec<String>,
    /// Only with these outcomes: success, denied or failure; repeatable
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',', value_parser = ["success", "denied", "failure"])]
    outcome: Vec<String>,
    /// Only about this identity, or done by it
    #[arg(long, value_name = "ID|NAME")]
    identity: Option<String>,
    /// Only about this service
    #[arg(long, value_name = "ID|NAME")]
    service: Option<String>,
    /// Of the past, only what happened within this time, such as 90s or 1h30m
    #[arg(long, value_name = "DURATION")]
    since: Option<Span>,
    #[command(flatten)]
    api: ApiArgs,
}

impl EventsArgs {
    /// Shows them; with `--follow` until it is asked to stop.
    ///
    /// # Errors
    /// Nobody is logged in, or the controller refused or cannot be reached.
    pub(crate) async fn run(self) -> Result<()> {
        let mut stop = Stop::catch()?;
        let session = Session::open(&self.api)?;
        let mut filter = Vec::new();
        filter.extend(self.event.into_iter().map(|event| ("event", event)));
        filter.extend(self.outcome.into_iter().map(|outcome| ("outcome", outcome)));
        filter.extend(self.identity.map(|identity| ("identity", identity)));
        filter.extend(self.service.map(|service| ("service", service)));
        let shown = Shown {
            filter,
            within: self.since.map(|span| span.0.as_secs()),
            last: usize::try_from(self.last).unwrap_or(usize::MAX),
            json: self.api.output_json,
        };
        tokio::select! {
            shown = events::show(&session, &shown, self.follow) => shown,
            () = stop.asked() => Ok(()),
        }
    }
}
