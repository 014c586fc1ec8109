//! `create terminator`, `update terminator`.

use super::{
    create::NewEntity,
    flags::{ApiArgs, Precedence, TagArgs},
    update::Change,
};
use crate::edge::draft::Draft;
use clap::Args;
use hesper_model::entity::Kind;

/// Creates a terminator by hand; a node that binds creates its own.
#[derive(Args, Debug)]
pub(crate) struct CreateTerminator {
    /// Id or name of the service it hosts
    service: String,
    /// Id or name of the edge router it is pinned to
    router: String,
    /// Where the host sends the streams: tcp:HOST:PORT
    address: String,
    /// Id or name of the identity that hosts it
    #[arg(long, value_name = "ID|NAME")]
    host: String,
    /// How it is served
    #[arg(long, default_value = "edge_transport")]
    binding: String,
    /// Its static cost
    #[arg(short = 'c', long)]
    cost: Option<u16>,
    /// Its precedence
    #[arg(short = 'p', long, value_enum)]
    precedence: Option<Precedence>,
    /// Its instance id, for dials of INSTANCE@SERVICE
    #[arg(long, value_name = "INSTANCE")]
    identity: Option<String>,
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl CreateTerminator {
    /// The request.
    pub(crate) fn request(self) -> NewEntity {
        let mut draft = Draft::default();
        draft
            .refer("serviceId", Kind::Service, Some(&self.service))
            .refer("routerId", Kind::EdgeRouter, Some(&self.router))
            .refer("hostId", Kind::Identity, Some(&self.host))
            .set("address", self.address)
            .set("binding", self.binding)
            .set_some("cost", self.cost)
            .set_some("precedence", self.precedence)
            .set_some("identity", self.identity);
        self.tags.apply(&mut draft);
        NewEntity::new(Kind::Terminator, None, draft, self.api).with_hint()
    }
}

/// Changes a terminator; only the flags given are changed.
#[derive(Args, Debug)]
pub(crate) struct UpdateTerminator {
    /// Its id
    #[arg(value_name = "ID")]
    target: String,
    /// Id or name of the edge router it is pinned to
    #[arg(long, value_name = "ID|NAME")]
    router: Option<String>,
    /// Where the host sends the streams
    #[arg(long)]
    address: Option<String>,
    /// How it is served
    #[arg(long)]
    binding: Option<String>,
    /// Its static cost
    #[arg(short = 'c', long)]
    cost: Option<u16>,
    /// Its precedence
    #[arg(short = 'p', long, value_enum)]
    precedence: Option<Precedence>,
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl UpdateTerminator {
    /// The request.
    pub(crate) fn request(self) -> Change {
        let mut draft = Draft::default();
        draft
            .refer("routerId", Kind::EdgeRouter, self.router.as_deref())
            .set_some("address", self.address)
            .set_some("binding", self.binding)
            .set_some("cost", self.cost)
            .set_some("precedence", self.precedence);
        self.tags.apply(&mut draft);
        Change { kind: Kind::Terminator, target: self.target, draft, api: self.api }
    }
}
