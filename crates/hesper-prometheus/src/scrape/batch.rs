//! Puts the samples of one scrape together: points of families, of one resource and scope each.

use super::{
    group::GroupKey,
    role::{Meta, Place, Role},
};
use crate::{
    labels::{Labels, NAME},
    text::{Kind, Sample},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
};

/// Everything of one scrape, before anything of an earlier one is looked at.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    hasher: RandomState,
    pub(super) families: Vec<Family<'a>>,
    known: HashMap<(usize, Cow<'a, str>, Kind), usize>,
    points: HashMap<(u64, i64), (usize, usize)>,
    pub(super) groups: Vec<GroupKey>,
    group_of: HashMap<GroupKey, usize>,
    /// Labels of `target_info`, by job and instance.
    pub(super) infos: HashMap<(String, String), Vec<(String, String)>>,
    /// Labels of `otel_scope_info`, by name and version.
    pub(super) scopes: HashMap<(String, String), Vec<(String, String)>>,
    /// Samples that make no sense as OTLP, by reason.
    pub(super) dropped: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
pub(super) struct Family<'a> {
    pub(super) group: usize,
    /// As OTLP has it: of counters and infos with their suffix.
    pub(super) name: Cow<'a, str>,
    pub(super) kind: Kind,
    pub(super) meta: Meta<'a>,
    pub(super) points: Vec<Point<'a>>,
    /// When counting began, in seconds since 1970, by the hash of the point.
    pub(super) created: HashMap<u64, f64>,
}

/// What becomes one data point.
#[derive(Debug)]
pub(super) struct Point<'a> {
    pub(super) hash: u64,
    pub(super) attributes: Labels<'a>,
    pub(super) time_ms: i64,
    pub(super) has_own_time: bool,
    pub(super) value: f64,
    pub(super) sum: Option<f64>,
    pub(super) count: Option<f64>,
    /// Cumulative buckets by bound, or values by quantile.
    pub(super) steps: Vec<(f64, f64)>,
    pub(super) exemplars: Vec<(Labels<'a>, f64, i64)>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            hasher,
            families: Vec::new(),
            known: HashMap::new(),
            points: HashMap::new(),
            groups: Vec::new(),
            group_of: HashMap::new(),
            infos: HashMap::new(),
            scopes: HashMap::new(),
            dropped: BTreeMap::new(),
        }
    }

    fn drop(&mut self, why: &'static str) {
        *self.dropped.entry(why).or_default() += 1;
    }

    /// Adds a sample under the labels that it is kept under (with its name).
    pub(super) fn add(
        &mut self,
        mut labels: Labels<'a>,
        sample: &Sample<'a>,
        place: &Place<'_, 'a>,
        time: (i64, bool),
    ) {
        let name = labels.take(NAME).unwrap_or_default();
        let (base, kind, role) = base(&name, &sample.name, place);
        if kind == Kind::GaugeHistogram {
            return self.drop("OTLP has no histogram of gauges");
        }
        let mut group = GroupKey::take(&mut labels);
        if &*name == "target_info" {
            return self.info(group, &labels);
        }
        if &*name == "otel_scope_info" {
            let scope = (std::mem::take(&mut group.scope.name), std::mem::take(&mut group.scope.version));
            self.scopes.insert(scope, owned(&labels));
            return;
        }
        let step = match (kind, role) {
            (Kind::Histogram, Role::Bucket) => labels.take("le"),
            (Kind::Summary, Role::Value) => labels.take("quantile"),
            _ => None,
        };
        let step = step.map(|text| text.parse::<f64>().unwrap_or(f64::NAN));
        let is_step = matches!((kind, role), (Kind::Histogram, Role::Bucket) | (Kind::Summary, Role::Value));
        if is_step && step.is_none_or(f64::is_nan) {
            return self.drop("a bucket without a bound, or a quantile that is none");
        }
        let group = self.group(group);
        let hash = self.hasher.hash_one((&self.groups[group], &base, kind, &labels));
        let family = self.family(group, base, kind, place.meta);
        if role == Role::Created {
            self.families[family].created.insert(hash, sample.value);
            return;
        }
        if role == Role::Value && matches!(kind, Kind::Counter | Kind::Info) {
            self.families[family].name = name;
        }
        let (point, is_new) = self.point(family, hash, labels, time);
        if !fill(point, role, sample, step, is_new, time.0) {
            self.drop("the same series twice");
        }
    }

    fn info(&mut self, group: GroupKey, labels: &Labels<'a>) {
        self.infos.insert((group.job, group.instance), owned(labels));
    }

    /// The number of a group.
    pub(super) fn group(&mut self, key: GroupKey) -> usize {
        if let Some(group) = self.group_of.get(&key) {
            return *group;
        }
        self.groups.push(key.clone());
        self.group_of.insert(key, self.groups.len() - 1);
        self.groups.len() - 1
    }

    fn family(&mut self, group: usize, base: Cow<'a, str>, kind: Kind, meta: Option<&Meta<'a>>) -> usize {
        let key = (group, base, kind);
        if let Some(family) = self.known.get(&key) {
            return *family;
        }
        self.families.push(Family {
            group,
            name: key.1.clone(),
            kind,
            meta: meta.cloned().unwrap_or_default(),
            points: Vec::new(),
            created: HashMap::new(),
        });
        self.known.insert(key, self.families.len() - 1);
        self.families.len() - 1
    }

    /// The point of these labels and this time; is it new?
    fn point(
        &mut self,
        family: usize,
        hash: u64,
        attributes: Labels<'a>,
        (time_ms, has_own_time): (i64, bool),
    ) -> (&mut Point<'a>, bool) {
        let points = &mut self.families[family].points;
        let next = (family, points.len());
        let (_, at) = *self.points.entry((hash, time_ms)).or_insert(next);
        let is_new = at == points.len();
        if is_new {
            points.push(Point {
                hash,
                attributes,
                time_ms,
                has_own_time,
                value: 0.0,
                sum: None,
                count: None,
                steps: Vec::new(),
                exemplars: Vec::new(),
            });
        }
        (&mut points[at], is_new)
    }
}

/// The family's name, its kind, and what the sample is in it. Where relabelling gave the sample a name without the suffix that says what
/// it is, it is a metric on its own.
fn base<'a>(name: &Cow<'a, str>, exposed: &str, place: &Place<'_, '_>) -> (Cow<'a, str>, Kind, Role) {
    let is_text_counter = place.kind == Kind::Counter && place.role == Role::Value;
    let family = |len: usize| match name {
        Cow::Borrowed(name) => Cow::Borrowed(&name[..len]),
        Cow::Owned(name) => Cow::Owned(name[..len].to_owned()),
    };
    match name.strip_suffix(place.suffix) {
        Some(base) => (family(base.len()), place.kind, place.role),
        None if is_text_counter && &**name != exposed => (name.clone(), Kind::Counter, Role::Value),
        None => (name.clone(), Kind::Unknown, Role::Value),
    }
}

/// False: it was there already.
fn fill<'a>(
    point: &mut Point<'a>,
    role: Role,
    sample: &Sample<'a>,
    step: Option<f64>,
    is_new: bool,
    time_ms: i64,
) -> bool {
    if let Some(exemplar) = &sample.exemplar {
        let time_ms = exemplar.time_ms.unwrap_or(time_ms);
        point.exemplars.push((exemplar.labels.clone(), exemplar.value, time_ms));
    }
    match (role, step) {
        (Role::Bucket | Role::Value, Some(step)) => {
            point.steps.push((step, sample.value));
            true
        }
        (Role::Sum, _) => point.sum.replace(sample.value).is_none(),
        (Role::Count, _) => point.count.replace(sample.value).is_none(),
        (Role::Value | Role::Bucket | Role::Created, _) => {
            point.value = if is_new { sample.value } else { point.value };
            is_new
        }
    }
}

fn owned(labels: &Labels<'_>) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl<'a> Point<'a> {
    /// A number without anything.
    pub(super) fn number(hash: u64, attributes: Labels<'a>, time_ms: i64, value: f64) -> Self {
        Self {
            hash,
            attributes,
            time_ms,
            has_own_time: false,
            value,
            sum: None,
            count: None,
            steps: Vec::new(),
            exemplars: Vec::new(),
        }
    }
}
