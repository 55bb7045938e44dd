//! Match specs as text, from the objects that build requests have.
//!
//! Name, version and build stand in the open, all else in brackets: `name >=1 py_*[build_number=">=2"]`. Keys may be
//! written in either case of the protocol, snake or camel.

use serde_json::Value;

use crate::json::Reader;
use crate::protocol::RpcError;

/// What stands in brackets: its name there and its keys in the object.
const IN_BRACKETS: [(&str, [&str; 2]); 11] = [
    ("build_number", ["buildNumber", "build_number"]),
    ("channel", ["channel", "channel"]),
    ("subdir", ["subdir", "subdir"]),
    ("fn", ["fileName", "file_name"]),
    ("md5", ["md5", "md5"]),
    ("sha256", ["sha256", "sha256"]),
    ("url", ["url", "url"]),
    ("license", ["license", "license"]),
    ("license_family", ["licenseFamily", "license_family"]),
    ("namespace", ["namespace", "namespace"]),
    ("track_features", ["trackFeatures", "track_features"]),
];

/// The specs of a list of dependencies, each an object with a `spec`.
pub(crate) fn of_dependencies(reader: &Reader<'_>, key: &str) -> Result<Vec<String>, RpcError> {
    let one = |dependency: Reader<'_>| {
        let missing = || RpcError::invalid_params(format!("{} is missing", dependency.place_of("spec")));
        render(dependency.get("spec").ok_or_else(missing)?, &dependency.place_of("spec"))
    };
    reader.readers(key)?.into_iter().map(one).collect()
}

/// The text of a spec that is an object; a string is taken for what it says.
pub(crate) fn render(spec: &Value, place: &str) -> Result<String, RpcError> {
    if let Value::String(text) = spec {
        return Ok(text.clone());
    }
    let spec = Reader::new(spec, place)?;
    let mut text = spec.required_string("name")?.to_owned();
    let build = spec.string("build")?;
    match (spec.string("version")?, build) {
        (Some(version), Some(build)) => text.push_str(&format!(" {version} {build}")),
        (Some(version), None) if version != "*" => text.push_str(&format!(" {version}")),
        (None, Some(build)) => text.push_str(&format!(" * {build}")),
        _ => {}
    }
    let mut brackets = Vec::new();
    for (name, keys) in IN_BRACKETS {
        if let Some(value) = keys.iter().find_map(|key| spec.get(key)).and_then(plain) {
            brackets.push(format!("{name}={}", quoted(&value)));
        }
    }
    for key in ["extras", "flags"] {
        if let Some(items) = spec.strings(key)?.filter(|items| !items.is_empty()) {
            brackets.push(format!("{key}=[{}]", items.join(",")));
        }
    }
    if let Some(when) = spec.get("condition") {
        brackets.push(format!("when={}", quoted(&condition(when, &spec.place_of("condition"))?)));
    }
    if !brackets.is_empty() {
        text.push_str(&format!("[{}]", brackets.join(",")));
    }
    Ok(text)
}

/// A value that is one word. A channel may be an object that knows its URL.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        Value::Object(object) => {
            ["base_url", "baseUrl", "name"].iter().find_map(|key| object.get(*key)?.as_str()).map(str::to_owned)
        }
        Value::Null | Value::Bool(_) => None,
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A condition is text, a spec, or two conditions that an `And` or `Or` joins.
fn condition(value: &Value, place: &str) -> Result<String, RpcError> {
    let wrong = || RpcError::invalid_params(format!("{place} is no condition"));
    let Value::Object(object) = value else { return render(value, place).map_err(|_| wrong()) };
    if let Some(spec) = object.get("MatchSpec").or_else(|| object.get("matchSpec")) {
        return render(spec, place);
    }
    for (key, word) in [("And", "and"), ("and", "and"), ("Or", "or"), ("or", "or")] {
        if let Some(sides) = object.get(key) {
            let Some([left, right]) = sides.as_array().map(Vec::as_slice) else { return Err(wrong()) };
            return Ok(format!("({} {word} {})", condition(left, place)?, condition(right, place)?));
        }
    }
    render(value, place)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::render;

    fn rendered(spec: Value) -> String {
        render(&spec, "spec").unwrap()
    }

    #[test]
    fn specs_are_as_short_as_they_can_be() {
        assert_eq!(rendered(json!("zlib >=1")), "zlib >=1");
        assert_eq!(rendered(json!({ "name": "zlib", "version": "*", "build": null })), "zlib");
        assert_eq!(rendered(json!({ "name": "zlib", "version": ">=1,<2" })), "zlib >=1,<2");
        assert_eq!(rendered(json!({ "name": "zlib", "version": "==1", "build": "h0_0" })), "zlib ==1 h0_0");
        assert_eq!(rendered(json!({ "name": "zlib", "build": "py*" })), "zlib * py*");
    }

    #[test]
    fn what_is_rare_stands_in_brackets() {
        let spec = json!({
            "name": "a", "version": ">=1", "build_number": ">=2", "subdir": "noarch",
            "channel": { "base_url": "https://example.org/c/", "name": "c" },
            "extras": ["x", "y"],
            "condition": { "And": [{ "MatchSpec": { "name": "python", "version": ">=3" } }, "__unix"] },
        });
        let expected = "a >=1[build_number=\">=2\",channel=\"https://example.org/c/\",subdir=\"noarch\",extras=[x,y],\
                        when=\"(python >=3 and __unix)\"]";
        assert_eq!(rendered(spec), expected);
    }

    #[test]
    fn a_spec_without_a_name_is_refused() {
        assert!(render(&json!({ "version": "1" }), "spec").is_err());
        assert!(render(&json!(3), "spec").is_err());
    }
}
