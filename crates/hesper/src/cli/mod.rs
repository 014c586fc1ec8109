//! What was typed: the grammar of the command line, one file per group of commands.
//!
//! The management verbs exist twice, as in OpenZiti: `hesper create …` and `hesper edge create …` are the same.

mod advisor;
mod authority;
mod collect;
mod completion;
mod config;
mod create;
mod delete;
mod dial;
mod doctor;
mod edge_router;
mod enroll;
mod enrollment;
mod events;
pub(crate) mod flags;
mod identity;
mod list;
mod login;
mod manifest;
mod policy;
mod revoke;
pub(crate) mod serve;
mod service;
mod show;
mod terminator;
mod tunnel;
mod update;

use crate::{
    output,
    traces::{self, Who, flags::TraceFlags, way},
};
use anyhow::{Context, Result};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use hesper_observe::logs::{self, Base, Format};

/// Behind the options of a command itself.
const LAST: usize = 900;

/// Zero-trust overlay network for telemetry: metrics and traces over a mesh that shows nothing.
#[derive(Parser, Debug)]
#[command(name = "hesper", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// Log more, on standard error; twice for even more
    #[arg(short = 'v', long, action = ArgAction::Count, global = true, display_order = LAST)]
    verbose: u8,
    /// The form of log lines: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true, display_order = LAST)]
    log_format: Format,
    #[command(flatten)]
    trace: TraceFlags,
    /// The words of the command, without what was typed for its arguments.
    #[arg(skip)]
    words: String,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// A management verb at the top level
    #[command(flatten)]
    Edge(EdgeVerb),
    /// Manage the network; the same verbs as at the top level
    #[command(name = "edge")]
    EdgeGroup {
        /// What to do
        #[command(subcommand)]
        command: EdgeCommand,
    },
    /// Make or run a controller
    Controller {
        /// What to do
        #[command(subcommand)]
        command: serve::ControllerCommand,
    },
    /// Enroll or run an edge router
    Router {
        /// What to do
        #[command(subcommand)]
        command: serve::RouterCommand,
    },
    /// Run a controller and a router in one process, ready to use
    Quickstart(Box<serve::QuickstartArgs>),
    /// Put unmodified programs on the mesh, without root
    Tunnel {
        /// What to do
        #[command(subcommand)]
        command: Box<tunnel::TunnelCommand>,
    },
    /// Open a stream to a service on standard input and output
    Dial(dial::DialArgs),
    /// Show what happens, step by step
    Trace {
        /// What to show
        #[command(subcommand)]
        command: dial::TraceCommand,
    },
    /// Find out what is wrong, and what to do about it
    Doctor(doctor::DoctorArgs),
    /// Receive, process, keep and send telemetry, over the mesh and beside it
    Collect(Box<collect::CollectArgs>),
    /// Try the whole of it in one process: enroll, bind, dial, scrape, refuse
    Demo,
    /// Print a completion script for a shell
    Completion(completion::CompletionArgs),
}

/// What stands under `edge`.
#[derive(Subcommand, Debug)]
pub(crate) enum EdgeCommand {
    /// A management verb
    #[command(flatten)]
    Verb(EdgeVerb),
    /// Run a controller and a router in one process, ready to use
    Quickstart(Box<serve::QuickstartArgs>),
}

/// The management verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum EdgeVerb {
    /// Log in at a controller
    Login(Box<login::LoginArgs>),
    /// End the session at the controller
    Logout(login::LogoutArgs),
    /// Create an identity, a service, a config, a policy, …
    Create {
        /// What to create
        #[command(subcommand)]
        kind: create::CreateCommand,
    },
    /// List identities, services, configs, policies, …
    #[command(visible_alias = "ls")]
    List {
        /// What to list
        #[command(subcommand)]
        kind: list::ListCommand,
    },
    /// Change an identity, a service, a config, a policy, …
    Update {
        /// What to change
        #[command(subcommand)]
        kind: update::UpdateCommand,
    },
    /// Delete identities, services, configs, policies, …
    Delete {
        /// What to delete
        #[command(subcommand)]
        kind: delete::DeleteCommand,
    },
    /// Show the JSON of a config or a config type
    Show {
        /// What to show
        #[command(subcommand)]
        kind: show::ShowCommand,
    },
    /// Take back certificates before their end
    Revoke {
        /// What to revoke
        #[command(subcommand)]
        kind: revoke::RevokeCommand,
    },
    /// Redeem a one-time token for an identity file
    Enroll(enroll::EnrollArgs),
    /// Find out why an identity cannot use a service
    PolicyAdvisor {
        /// From which side to look
        #[command(subcommand)]
        side: advisor::AdvisorCommand,
    },
    /// Show who was let do what and who was not, and what became of the network; follow it with -f
    Events(Box<events::EventsArgs>),
    /// Check, compare, apply and export policy files: policy as code
    Policy {
        /// What to do
        #[command(subcommand)]
        command: manifest::PolicyCommand,
    },
    /// Print the version of this program
    Version,
}

impl Cli {
    /// Reads the command line; a usage error is one message and exit code 2.
    pub(crate) fn read() -> Self {
        let mut command = errors_instead_of_help(Self::command());
        let matches = command.clone().get_matches();
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|e| e.format(&mut command).exit());
        Self { words: words(&matches), ..cli }
    }

    /// Does it.
    ///
    /// # Errors
    /// Whatever kept it from being done.
    pub(crate) async fn run(self) -> Result<()> {
        let base = self.command.log_base();
        let who = self.command.traces_as();
        let is_role = matches!(who, Who::Role(..));
        let mut begun = traces::begin(who, &self.trace)?;
        logs::init(
            logs::Options { verbosity: self.verbose, base, format: self.log_format },
            begun.layer.take(),
        )
        .context("cannot log")?;
        let traces = begun.start();
        let work = Box::pin(self.command.run());
        let done = if is_role { work.await } else { traces.command(&self.words, work).await };
        traces.finish().await;
        if !is_role {
            way::leave().await;
        }
        done
    }
}

/// The command and its subcommands: nothing that a person chose.
fn words(matches: &clap::ArgMatches) -> String {
    let mut words = String::from("hesper");
    let mut below = matches.subcommand();
    while let Some((word, matches)) = below {
        words.push(' ');
        words.push_str(word);
        below = matches.subcommand();
    }
    words
}

impl Command {
    async fn run(self) -> Result<()> {
        match self {
            Self::Edge(verb) | Self::EdgeGroup { command: EdgeCommand::Verb(verb) } => verb.run().await,
            Self::Controller { command } => command.run().await,
            Self::Router { command } => command.run().await,
            Self::Quickstart(args) | Self::EdgeGroup { command: EdgeCommand::Quickstart(args) } => {
                args.run().await
            }
            Self::Tunnel { command } => command.run().await,
            Self::Collect(args) => args.run().await,
            Self::Dial(args) => args.run().await,
            Self::Doctor(args) => args.run().await,
            Self::Trace { command } => command.run().await,
            Self::Demo => crate::demo::run().await,
            Self::Completion(args) => args.run(),
        }
    }

    /// Who traces: a role by its name, or a command.
    fn traces_as(&self) -> Who<'_> {
        match self {
            Self::Controller { command } => command.traces_as(),
            Self::Router { command } => command.traces_as(),
            Self::Quickstart(args) | Self::EdgeGroup { command: EdgeCommand::Quickstart(args) } => {
                args.traces_as()
            }
            Self::Tunnel { command } => command.traces_as(),
            Self::Collect(args) => args.traces_as(),
            _ => Who::Command,
        }
    }

    /// Roles tell what happens; commands, and quickstart with its banner, only what went wrong.
    fn log_base(&self) -> Base {
        match self {
            Self::Collect(args) => args.log_base(),
            Self::Controller { command: serve::ControllerCommand::Run(_) }
            | Self::Router { command: serve::RouterCommand::Run(_) }
            | Self::Tunnel { .. } => Base::Role,
            _ => Base::Command,
        }
    }
}

impl EdgeVerb {
    async fn run(self) -> Result<()> {
        match self {
            Self::Login(args) => args.run().await,
            Self::Logout(args) => args.run().await,
            Self::Create { kind } => kind.run().await,
            Self::List { kind } => kind.run().await,
            Self::Update { kind } => kind.run().await,
            Self::Delete { kind } => kind.run().await,
            Self::Show { kind } => kind.run().await,
            Self::Revoke { kind } => kind.run().await,
            Self::Enroll(args) => args.run().await,
            Self::PolicyAdvisor { side } => side.run().await,
            Self::Events(args) => args.run().await,
            Self::Policy { command } => command.run().await,
            Self::Version => Ok(output::line(format_args!("hesper {}", env!("CARGO_PKG_VERSION")))?),
        }
    }
}

/// A missing subcommand is answered by one line that names the choices, not by a page of help.
fn errors_instead_of_help(command: clap::Command) -> clap::Command {
    command.arg_required_else_help(false).mut_subcommands(errors_instead_of_help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} is not described");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} does not describe {}", argument.get_id());
        }
        for below in command.get_subcommands() {
            described(below, &format!("{path} {}", below.get_name()));
        }
    }

    #[test]
    fn every_command_and_argument_is_described() {
        let mut command = Cli::command();
        command.build();
        described(&command, "hesper");
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }
}
