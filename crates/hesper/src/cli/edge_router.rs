//! `create edge-router`, `update edge-router`.

use super::{
    create::NewEntity,
    flags::{ApiArgs, JwtOutput, LongTagArgs},
    update::Change,
};
use crate::edge::draft::Draft;
use clap::Args;
use hesper_model::entity::Kind;

/// Creates an edge router.
#[derive(Args, Debug)]
pub(crate) struct CreateEdgeRouter {
    /// Its name
    name: String,
    #[command(flatten)]
    output: JwtOutput,
    /// Role attributes, comma separated
    #[arg(short = 'a', long, value_name = "ATTR", value_delimiter = ',')]
    role_attributes: Option<Vec<String>>,
    /// Kept for OpenZiti's scripts: a Hesper router never hosts services
    #[arg(short = 't', long)]
    tunneler_enabled: bool,
    /// Added to the cost of paths through it
    #[arg(long)]
    cost: Option<u16>,
    /// It may not carry traffic between other routers
    #[arg(long)]
    no_traversal: bool,
    /// Nobody may use it yet
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    tags: LongTagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl CreateEdgeRouter {
    /// The request.
    pub(crate) fn request(self) -> NewEntity {
        let mut draft = Draft::default();
        draft
            .set("name", self.name.as_str())
            .set_list("roleAttributes", Some(self.role_attributes.as_deref().unwrap_or_default()))
            .set("isTunnelerEnabled", self.tunneler_enabled)
            .set_some("cost", self.cost)
            .set("noTraversal", self.no_traversal)
            .set("disabled", self.disabled);
        self.tags.apply(&mut draft);
        NewEntity::new(Kind::EdgeRouter, Some(self.name), draft, self.api)
            .with_token(self.output.jwt_output_file)
    }
}

/// Changes an edge router; only the flags given are changed.
#[derive(Args, Debug)]
pub(crate) struct UpdateEdgeRouter {
    /// Its id or name
    #[arg(value_name = "ID|NAME")]
    target: String,
    /// Its new name
    #[arg(short = 'n', long)]
    name: Option<String>,
    /// Role attributes, comma separated; '' removes all
    #[arg(short = 'a', long, value_name = "ATTR", value_delimiter = ',')]
    role_attributes: Option<Vec<String>>,
    /// Kept for OpenZiti's scripts: a Hesper router never hosts services
    #[arg(short = 't', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    tunneler_enabled: Option<bool>,
    /// Added to the cost of paths through it
    #[arg(long)]
    cost: Option<u16>,
    /// It may not carry traffic between other routers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    no_traversal: Option<bool>,
    /// Nobody may use it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    disabled: Option<bool>,
    #[command(flatten)]
    tags: LongTagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl UpdateEdgeRouter {
    /// The request.
    pub(crate) fn request(self) -> Change {
        let mut draft = Draft::default();
        draft
            .set_some("name", self.name)
            .set_list("roleAttributes", self.role_attributes.as_deref())
            .set_some("isTunnelerEnabled", self.tunneler_enabled)
            .set_some("cost", self.cost)
            .set_some("noTraversal", self.no_traversal)
            .set_some("disabled", self.disabled);
        self.tags.apply(&mut draft);
        Change { kind: Kind::EdgeRouter, target: self.target, draft, api: self.api }
    }
}
