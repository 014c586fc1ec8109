//! The kinds of entity as the command line shows them: their words and their columns.

use crate::output::{Grid, cell};
use hesper_model::entity::Kind;
use serde_json::Value;

/// A column of `list`: its header and what stands under it.
type Column = (&'static str, fn(&Value) -> String);

/// The words of a message: `edge router policy`.
pub(crate) fn noun(kind: Kind) -> String {
    kind.singular().replace('-', " ")
}

/// Do entities of this kind have names?
pub(crate) fn is_named(kind: Kind) -> bool {
    !matches!(kind, Kind::Terminator | Kind::Enrollment)
}

/// The entities of a list answer as rows.
pub(crate) fn grid(kind: Kind, entities: &[Value]) -> Grid {
    let columns = columns(kind);
    Grid {
        headers: columns.iter().map(|(header, _)| *header).collect(),
        rows: entities.iter().map(|e| columns.iter().map(|(_, show)| show(e)).collect()).collect(),
    }
}

/// The columns of a kind, as OpenZiti has them where it has the kind.
fn columns(kind: Kind) -> Vec<Column> {
    const ID: Column = ("ID", |e| cell(e.get("id")));
    const NAME: Column = ("Name", |e| cell(e.get("name")));
    const ATTRIBUTES: Column = ("Attributes", |e| joined(e.get("roleAttributes"), ","));
    const SEMANTIC: Column = ("Semantic", |e| cell(e.get("semantic")));
    const IDENTITY_ROLES: Column = ("Identity Roles", |e| roles(e, "identityRoles"));
    const SERVICE_ROLES: Column = ("Service Roles", |e| roles(e, "serviceRoles"));
    const ROUTER_ROLES: Column = ("Edge Router Roles", |e| roles(e, "edgeRouterRoles"));
    const COST: Column = ("Cost", |e| cell(e.get("cost")));
    match kind {
        Kind::Identity => vec![
            ID,
            NAME,
            ("Type", |e| cell(e.pointer("/type/name").or_else(|| e.get("type")))),
            ATTRIBUTES,
            ("Auth-Policy", |e| {
                e.pointer("/authPolicy/name").map_or_else(|| "Default".to_owned(), |n| cell(Some(n)))
            }),
        ],
        Kind::Service => vec![
            ID,
            NAME,
            ("Encryption Required", |e| cell(e.get("encryptionRequired"))),
            ("Terminator Strategy", |e| cell(e.get("terminatorStrategy"))),
            ATTRIBUTES,
        ],
        Kind::Config => vec![ID, NAME, ("Config Type", |e| named(e, "configType", "configTypeId"))],
        Kind::ConfigType => vec![ID, NAME, ("Target", |e| cell(e.get("target")))],
        Kind::ServicePolicy => vec![
            ID,
            NAME,
            ("Type", |e| cell(e.get("type"))),
            SEMANTIC,
            SERVICE_ROLES,
            IDENTITY_ROLES,
            ("Posture Check Roles", |e| roles(e, "postureCheckRoles")),
        ],
        Kind::EdgeRouter => vec![
            ID,
            NAME,
            ("Online", |e| cell(e.get("isOnline"))),
            ("Allow Transit", |e| {
                e.get("noTraversal").and_then(Value::as_bool).map_or(String::new(), |no| (!no).to_string())
            }),
            COST,
            ATTRIBUTES,
        ],
        Kind::EdgeRouterPolicy => vec![ID, NAME, ROUTER_ROLES, IDENTITY_ROLES],
        Kind::ServiceEdgeRouterPolicy => vec![ID, NAME, SERVICE_ROLES, ROUTER_ROLES],
        Kind::Terminator => vec![
            ID,
            ("Service", |e| named(e, "service", "serviceId")),
            ("Router", |e| named(e, "router", "routerId")),
            ("Binding", |e| cell(e.get("binding"))),
            ("Address", |e| cell(e.get("address"))),
            ("Identity", |e| cell(e.get("identity"))),
            COST,
            ("Precedence", |e| cell(e.get("precedence"))),
            ("Dynamic Cost", |e| cell(e.get("dynamicCost"))),
        ],
        Kind::Enrollment => vec![
            ID,
            ("Method", |e| cell(e.get("method"))),
            ("State", |e| cell(e.get("state"))),
            ("Identity", |e| named(e, "identity", "identityId")),
            ("Edge Router", |e| named(e, "edgeRouter", "edgeRouterId")),
            ("Expires At", |e| cell(e.get("expiresAt"))),
        ],
    }
}

/// `summary`'s answer as rows: an object of counts, in the answer's order.
pub(crate) fn summary(counts: &Value) -> Grid {
    let rows =
        counts.as_object().into_iter().flatten().map(|(name, count)| vec![name.clone(), cell(Some(count))]);
    Grid { headers: vec!["Entity Type", "Count"], rows: rows.collect() }
}

/// Certificates as rows.
pub(crate) fn certificates(certificates: &[Value]) -> Grid {
    const SHOWN: usize = 16;
    let short = |e: &Value, field| cell(e.get(field)).chars().take(SHOWN).collect::<String>();
    Grid {
        headers: vec!["Role", "Name", "Serial", "Issuer CA", "Not After", "Days Left", "State"],
        rows: certificates
            .iter()
            .map(|e| {
                let name = match cell(e.get("name")) {
                    none if none.is_empty() => cell(e.get("subjectId")),
                    name => name,
                };
                vec![
                    cell(e.get("role")),
                    name,
                    cell(e.get("serial")),
                    short(e, "issuer"),
                    cell(e.get("notAfter")),
                    cell(e.get("daysLeft")),
                    cell(e.get("state")),
                ]
            })
            .collect(),
    }
}

/// Certificate authorities as rows.
pub(crate) fn authorities(cas: &[Value]) -> Grid {
    let columns = ["sha256", "role", "issues", "notAfter", "certificates"];
    Grid {
        headers: vec!["SHA-256", "Role", "Issues", "Not After", "Certificates In Use"],
        rows: cas.iter().map(|ca| columns.map(|field| cell(ca.get(field))).to_vec()).collect(),
    }
}

/// Role attributes as rows.
pub(crate) fn role_attributes(attributes: &[Value]) -> Grid {
    Grid { headers: vec!["Role Attribute"], rows: attributes.iter().map(|a| vec![cell(Some(a))]).collect() }
}

/// The name in a display field, or the id beside it.
fn named(entity: &Value, display: &str, id: &str) -> String {
    cell(entity.get(display).and_then(|d| d.get("name")).or_else(|| entity.get(id)))
}

/// Roles with `@name` instead of `@id`, where the controller gave the names.
fn roles(entity: &Value, field: &str) -> String {
    let shown = entity.get(format!("{field}Display")).and_then(Value::as_array);
    match shown {
        Some(shown) => shown.iter().map(|r| cell(r.get("name"))).collect::<Vec<_>>().join(" "),
        None => joined(entity.get(field), " "),
    }
}

fn joined(list: Option<&Value>, separator: &str) -> String {
    let entries = list.and_then(Value::as_array).into_iter().flatten();
    entries.map(|e| cell(Some(e))).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_has_the_columns_of_openziti() {
        let headers = |kind| grid(kind, &[]).headers.join("|");
        assert_eq!(headers(Kind::Identity), "ID|Name|Type|Attributes|Auth-Policy");
        assert_eq!(headers(Kind::Service), "ID|Name|Encryption Required|Terminator Strategy|Attributes");
        assert_eq!(
            headers(Kind::ServicePolicy),
            "ID|Name|Type|Semantic|Service Roles|Identity Roles|Posture Check Roles"
        );
        assert_eq!(headers(Kind::EdgeRouter), "ID|Name|Online|Allow Transit|Cost|Attributes");
        assert_eq!(headers(Kind::EdgeRouterPolicy), "ID|Name|Edge Router Roles|Identity Roles");
        assert_eq!(headers(Kind::ServiceEdgeRouterPolicy), "ID|Name|Service Roles|Edge Router Roles");
        assert_eq!(headers(Kind::Config), "ID|Name|Config Type");
        assert_eq!(headers(Kind::ConfigType), "ID|Name|Target");
        assert_eq!(
            headers(Kind::Terminator),
            "ID|Service|Router|Binding|Address|Identity|Cost|Precedence|Dynamic Cost"
        );
    }

    #[test]
    fn policies_show_names_in_place_of_ids() {
        let policy = json!({"id": "p1", "name": "dial", "type": "Dial", "semantic": "AnyOf",
            "identityRoles": ["#clients"], "serviceRoles": ["@s1"],
            "serviceRolesDisplay": [{"role": "@s1", "name": "@reflect"}]});
        assert_eq!(
            grid(Kind::ServicePolicy, &[policy]).rows,
            [["p1", "dial", "Dial", "AnyOf", "@reflect", "#clients", ""]]
        );
    }

    #[test]
    fn names_stand_for_references_and_ids_where_there_is_no_name() {
        let terminator = json!({"id": "t1", "service": {"id": "s1", "name": "web"}, "serviceId": "s1", "routerId": "r1",
            "binding": "hesper", "address": "", "identity": "kube", "cost": 3, "precedence": "default", "dynamicCost": 0});
        assert_eq!(
            grid(Kind::Terminator, &[terminator]).rows,
            [["t1", "web", "r1", "hesper", "", "kube", "3", "default", "0"]]
        );
        let router = json!({"id": "r1", "name": "edge", "isOnline": true, "noTraversal": false, "cost": 0,
            "roleAttributes": ["public", "x"]});
        assert_eq!(grid(Kind::EdgeRouter, &[router]).rows, [["r1", "edge", "true", "true", "0", "public,x"]]);
    }
}
