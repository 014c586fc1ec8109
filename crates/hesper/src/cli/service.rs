//! `create service`, `update service`.

use super::{
    create::NewEntity,
    flags::{ApiArgs, TagArgs},
    update::Change,
};
use crate::edge::draft::Draft;
use clap::{Args, ValueEnum};
use hesper_model::entity::Kind;
use serde_json::Value;

/// How one of several terminators is chosen.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub(crate) enum Strategy {
    /// Lowest cost first
    Smartrouting,
    /// At random, more often the cheaper ones
    Weighted,
    /// At random
    Random,
    /// The same one as long as it is there
    Sticky,
}

impl From<Strategy> for Value {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Smartrouting => "smartrouting",
            Strategy::Weighted => "weighted",
            Strategy::Random => "random",
            Strategy::Sticky => "sticky",
        }
        .into()
    }
}

/// OpenZiti's switch for end-to-end encryption.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// Encrypted end to end
    #[value(name = "ON", alias = "on")]
    On,
    /// Accepted, without effect
    #[value(name = "OFF", alias = "off")]
    Off,
}

/// What both commands take.
#[derive(Args, Debug)]
struct ServiceFlags {
    /// Role attributes, comma separated
    #[arg(short = 'a', long, value_name = "ATTR", value_delimiter = ',')]
    role_attributes: Option<Vec<String>>,
    /// Ids or names of its configs, comma separated
    #[arg(short = 'c', long, value_name = "ID|NAME", value_delimiter = ',')]
    configs: Option<Vec<String>>,
    /// How one of several terminators is chosen
    #[arg(long, value_enum, value_name = "STRATEGY")]
    terminator_strategy: Option<Strategy>,
    /// End a stream without traffic for so many milliseconds; 0 = never
    #[arg(long, value_name = "MILLISECONDS")]
    max_idle_time: Option<u64>,
    /// Kept for OpenZiti's scripts: streams are always encrypted end to end
    #[arg(short = 'e', long, value_enum)]
    encryption: Option<Encryption>,
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl ServiceFlags {
    fn apply(&self, draft: &mut Draft) {
        draft
            .set_list("roleAttributes", self.role_attributes.as_deref())
            .refer_all("configs", Kind::Config, self.configs.as_deref())
            .set_some("terminatorStrategy", self.terminator_strategy)
            .set_some("maxIdleTimeMillis", self.max_idle_time);
        match self.encryption {
            Some(Encryption::On) => _ = draft.set("encryptionRequired", true),
            Some(Encryption::Off) => {
                eprintln!("note: streams are always encrypted end to end; '--encryption OFF' has no effect")
            }
            None => {}
        }
        self.tags.apply(draft);
    }
}

/// Creates a service.
#[derive(Args, Debug)]
pub(crate) struct CreateService {
    /// Its name
    name: String,
    #[command(flatten)]
    flags: ServiceFlags,
}

impl CreateService {
    /// The request.
    pub(crate) fn request(self) -> NewEntity {
        let mut draft = Draft::default();
        draft.set("name", self.name.as_str());
        self.flags.apply(&mut draft);
        NewEntity::new(Kind::Service, Some(self.name), draft, self.flags.api).with_hint()
    }
}

/// Changes a service; only the flags given are changed.
#[derive(Args, Debug)]
pub(crate) struct UpdateService {
    /// Its id or name
    #[arg(value_name = "ID|NAME")]
    target: String,
    /// Its new name
    #[arg(short = 'n', long)]
    name: Option<String>,
    #[command(flatten)]
    flags: ServiceFlags,
}

impl UpdateService {
    /// The request.
    pub(crate) fn request(self) -> Change {
        let mut draft = Draft::default();
        draft.set_some("name", self.name);
        self.flags.apply(&mut draft);
        Change { kind: Kind::Service, target: self.target, draft, api: self.flags.api }
    }
}
