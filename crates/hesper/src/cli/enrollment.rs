//! `create enrollment`: a new one-time token for an identity or an edge router that exists already.

use super::{
    create::NewEntity,
    flags::{ApiArgs, JwtOutput},
};
use crate::edge::draft::Draft;
use clap::{Args, Subcommand};
use hesper_model::entity::Kind;

/// The controller allows a month.
const MAX_MINUTES: i64 = 31 * 24 * 60;

/// The methods of enrollment.
#[derive(Subcommand, Debug)]
pub(crate) enum CreateEnrollment {
    /// A one-time token for an identity
    Ott(Token),
    /// A one-time token for an edge router
    Erott(Token),
}

/// What both methods take.
#[derive(Args, Debug)]
pub(crate) struct Token {
    /// Id or name of who is to enroll
    #[arg(value_name = "ID|NAME")]
    target: String,
    /// How long the token is good, in minutes
    #[arg(short = 'd', long, value_name = "MINUTES", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=MAX_MINUTES))]
    duration: u32,
    #[command(flatten)]
    output: JwtOutput,
    #[command(flatten)]
    api: ApiArgs,
}

impl CreateEnrollment {
    /// The request.
    pub(crate) fn request(self) -> NewEntity {
        let (method, field, kind, token) = match self {
            Self::Ott(token) => ("ott", "identityId", Kind::Identity, token),
            Self::Erott(token) => ("erott", "edgeRouterId", Kind::EdgeRouter, token),
        };
        let mut draft = Draft::default();
        draft
            .set("method", method)
            .refer(field, kind, Some(&token.target))
            .set("durationMinutes", token.duration);
        NewEntity::new(Kind::Enrollment, None, draft, token.api).with_token(token.output.jwt_output_file)
    }
}
