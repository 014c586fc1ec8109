//! The defaults that `hesper quickstart` adds, and that a newcomer to OpenZiti misses: a router that everybody may use.

use crate::{
    api::chain,
    enroll::{self, make_token},
    server::Running,
    state::{Changes, ROUTER_SECRET, RouterSecret, State, WriteError},
};
use hesper_model::{
    entity::{
        EdgeRouter, EdgeRouterPolicy, Enrollment, EnrollmentMethod, EnrollmentState, ServiceEdgeRouterPolicy,
    },
    id::{EdgeRouterId, EdgeRouterPolicyId, ServiceEdgeRouterPolicyId, Tag},
    role::{Role, Roles, Semantic},
};
use rand::Rng as _;
use time::OffsetDateTime;

/// Role attribute of routers that every identity may use.
const PUBLIC: &str = "public";
/// Name of the policy that lets every identity use public routers.
const ROUTERS_FOR_ALL: &str = "all-endpoints-public-routers";
/// Name of the policy that lets every service use every router.
const SERVICES_EVERYWHERE: &str = "all-routers-all-services";

/// Why the defaults could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the quickstart's defaults could not be made: {0}")]
pub struct BootstrapError(String);

impl From<WriteError> for BootstrapError {
    fn from(error: WriteError) -> Self {
        Self(chain(&error))
    }
}

/// Makes the edge router `router_name` (attribute `public`), the edge-router policy `all-endpoints-public-routers` (#public,
/// #all) and the service-edge-router policy `all-routers-all-services` (#all, #all), as far as they do not exist. Returns
/// a fresh enrollment token of the router, or none when it has enrolled already.
///
/// # Errors
/// The store's.
pub async fn quickstart_defaults(
    running: &Running,
    router_name: &str,
) -> Result<Option<String>, BootstrapError> {
    let state = &running.state;
    let _planning = state.planning.lock().await;
    let (model, now, mut changes) = (state.model(), OffsetDateTime::now_utc(), Changes::default());
    let jwt = router(state, router_name, now, &mut changes)?;
    let all = || Roles::new([Role::All]).unwrap_or_default();
    if model.edge_router_policy_by_name(ROUTERS_FOR_ALL).is_none() {
        changes.create(&EdgeRouterPolicy {
            id: EdgeRouterPolicyId::random(&mut rand::rng()),
            name: ROUTERS_FOR_ALL.into(),
            semantic: Semantic::AnyOf,
            identity_roles: all(),
            edge_router_roles: Roles::new([Role::Attribute(PUBLIC.into())]).unwrap_or_default(),
            tags: Default::default(),
            created_at: now,
            updated_at: now,
        });
    }
    if model.service_edge_router_policy_by_name(SERVICES_EVERYWHERE).is_none() {
        changes.create(&ServiceEdgeRouterPolicy {
            id: ServiceEdgeRouterPolicyId::random(&mut rand::rng()),
            name: SERVICES_EVERYWHERE.into(),
            semantic: Semantic::AnyOf,
            service_roles: all(),
            edge_router_roles: all(),
            tags: Default::default(),
            created_at: now,
            updated_at: now,
        });
    }
    if !changes.is_empty() {
        state.commit(changes).await?;
    }
    Ok(jwt)
}

/// Is the edge router of this name connected to the controller?
pub fn router_is_online(running: &Running, router_name: &str) -> bool {
    let model = running.state.model();
    model
        .edge_router_by_name(router_name)
        .is_some_and(|router| running.state.control.router_is_online(&router.id))
}

/// The router, and a token that takes the place of those that were not used.
fn router(
    state: &State,
    name: &str,
    now: OffsetDateTime,
    changes: &mut Changes,
) -> Result<Option<String>, BootstrapError> {
    let model = state.model();
    let id = match model.edge_router_by_name(name) {
        Some(router) if router.is_verified => return Ok(None),
        Some(router) => router.id.clone(),
        None => {
            let id = EdgeRouterId::random(&mut rand::rng());
            create_router(&id, name, now, changes);
            id
        }
    };
    let unused = model
        .enrollments()
        .filter(|e| e.edge_router_id.as_ref() == Some(&id) && matches!(e.state, EnrollmentState::Pending));
    for old in unused.filter_map(|e| state.get::<Enrollment>(e.id.as_str())) {
        changes.remove(&old);
    }
    let made = make_token(state, EnrollmentMethod::Erott, &id, enroll::LIFETIME, now)
        .map_err(|e| BootstrapError(e.to_string()))?;
    changes.create(&made.enrollment);
    Ok(Some(made.into_jwt()))
}

fn create_router(id: &EdgeRouterId, name: &str, now: OffsetDateTime, changes: &mut Changes) {
    changes.create(&EdgeRouter {
        id: id.clone(),
        name: name.to_owned(),
        role_attributes: [PUBLIC.to_owned()].into(),
        disabled: false,
        is_verified: false,
        cost: 0,
        no_traversal: false,
        is_tunneler_enabled: false,
        addresses: Vec::new(),
        tags: Default::default(),
        created_at: now,
        updated_at: now,
    });
    let mut rng = rand::rng();
    let secret = RouterSecret { tag: Tag::random(&mut rng), knock_secret: rng.random() };
    changes.create_record(format!("{ROUTER_SECRET}{id}"), &secret);
}
