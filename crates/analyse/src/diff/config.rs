//! Two configs, field by field. Times, layers and history are compared elsewhere or not at all: they differ without meaning anything.

use std::collections::BTreeMap;

use oci::types::ImageConfig;
use serde::Serialize;
use serde_json::Value;

/// A field that is different.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigChange {
    /// Its name: `Cmd`, `architecture`; of what has members, one of them: `Env PATH`, `Labels version`, `ExposedPorts 80/tcp`.
    pub field: String,
    /// Before; none: it is new.
    pub from: Option<Value>,
    /// After; none: it is gone.
    pub to: Option<Value>,
}

/// The fields by name, with members of their own for what is a set or a map.
fn fields(config: &ImageConfig) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    let Ok(Value::Object(top)) = serde_json::to_value(config) else { return out };
    for (name, value) in top {
        if matches!(name.as_str(), "created" | "rootfs" | "history") {
            continue;
        }
        let Value::Object(run) = value else {
            out.insert(name, value);
            continue;
        };
        if name != "config" {
            out.insert(name, Value::Object(run));
            continue;
        }
        for (name, value) in run {
            match (name.as_str(), value) {
                ("Env", Value::Array(items)) => {
                    for item in items {
                        let text = item.as_str().unwrap_or_default();
                        let (key, value) = text.split_once('=').unwrap_or((text, ""));
                        out.insert(format!("Env {key}"), Value::String(value.to_owned()));
                    }
                }
                ("Labels" | "ExposedPorts" | "Volumes", Value::Object(members)) => {
                    for (key, value) in members {
                        out.insert(format!("{name} {key}"), value);
                    }
                }
                (_, value) => {
                    out.insert(name, value);
                }
            }
        }
    }
    // Empty and absent mean the same.
    out.retain(|_, v| !matches!(v, Value::Null) && v != "" && v != &Value::Array(Vec::new()));
    out
}

/// Compares two configs.
pub fn compare(a: &ImageConfig, b: &ImageConfig) -> Vec<ConfigChange> {
    let (mut from, to) = (fields(a), fields(b));
    let mut out: Vec<ConfigChange> = Vec::new();
    for (field, value) in to {
        let before = from.remove(&field);
        if before.as_ref() != Some(&value) {
            out.push(ConfigChange { field, from: before, to: Some(value) });
        }
    }
    out.extend(from.into_iter().map(|(field, value)| ConfigChange { field, from: Some(value), to: None }));
    out.sort_by(|x, y| x.field.cmp(&y.field));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(v: Value) -> ImageConfig {
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn members_are_compared_one_by_one_and_times_are_not() {
        let a = config(json!({"created": "2020-01-01T00:00:00Z", "os": "linux", "architecture": "amd64",
            "config": {"Env": ["A=1", "B=2"], "Cmd": ["sh"], "Labels": {"x": "1"}, "User": ""}}));
        let b = config(json!({"created": "2021-01-01T00:00:00Z", "os": "linux", "architecture": "arm64",
            "config": {"Env": ["B=3", "C=x=y"], "Cmd": ["sh"], "Labels": {"x": "1", "y": "2"}, "ExposedPorts": {"80/tcp": {}}}}));
        let changes = compare(&a, &b);
        let said: Vec<_> = changes.iter().map(|c| (c.field.as_str(), c.from.clone(), c.to.clone())).collect();
        assert_eq!(
            said,
            [
                ("Env A", Some(json!("1")), None),
                ("Env B", Some(json!("2")), Some(json!("3"))),
                ("Env C", None, Some(json!("x=y"))),
                ("ExposedPorts 80/tcp", None, Some(json!({}))),
                ("Labels y", None, Some(json!("2"))),
                ("architecture", Some(json!("amd64")), Some(json!("arm64"))),
            ]
        );
        assert_eq!(compare(&a, &a), []);
    }
}
