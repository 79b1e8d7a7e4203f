//! Where two plans differ.

use serde_json::Value;

/// The first place where `there` and `now` differ, in words; `None` when they are equal.
pub(super) fn difference(there: &Value, now: &Value) -> Option<String> {
    walk("", there, now)
}

fn walk(path: &str, there: &Value, now: &Value) -> Option<String> {
    match (there, now) {
        (Value::Object(a), Value::Object(b)) => {
            let inside = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
            let gone = b.keys().find(|key| !a.contains_key(*key)).map(|key| (key, "absent", "present"));
            let odd = a.keys().find(|key| !b.contains_key(*key)).map(|key| (key, "present", "absent")).or(gone);
            let same = a.iter().filter_map(|(key, value)| Some((key, value, b.get(key)?)));
            let mut inner = same.filter_map(|(key, a, b)| walk(&inside(key), a, b));
            inner.next().or_else(|| odd.map(|(key, a, b)| format!("`{}` is {a} there, {b} now", inside(key))))
        }
        (Value::Array(a), Value::Array(b)) if a.len() != b.len() => {
            Some(format!("`{path}` has {} entries there, {} now", a.len(), b.len()))
        }
        (Value::Array(a), Value::Array(b)) => (0..a.len()).find_map(|i| walk(&format!("{path}[{i}]"), &a[i], &b[i])),
        _ if there == now => None,
        _ => Some(format!("`{path}` is {} there, {} now", short(there), short(now))),
    }
}

/// A value as it stands in a sentence; of a whole table only that it is there.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "absent".into(),
        Value::Object(_) => "a table".into(),
        Value::Array(list) => format!("a list of {}", list.len()),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_place_is_named_as_one_would_write_it() {
        let plan = json!({ "recipe": { "train": { "epochs": 3 } }, "jobs": [{ "seed": 0 }, { "seed": 1 }] });
        let with = |path: &str, value: Value| {
            let mut other = plan.clone();
            *other.pointer_mut(path).expect("there") = value;
            difference(&plan, &other)
        };
        assert_eq!(difference(&plan, &plan), None);
        assert_eq!(with("/recipe/train/epochs", json!(5)).as_deref(), Some("`recipe.train.epochs` is 3 there, 5 now"));
        assert_eq!(with("/jobs/1/seed", json!(2)).as_deref(), Some("`jobs[1].seed` is 1 there, 2 now"));
        assert_eq!(with("/jobs", json!([])).as_deref(), Some("`jobs` has 2 entries there, 0 now"));
        assert_eq!(with("/recipe", json!({})).as_deref(), Some("`recipe.train` is present there, absent now"));
        let gone = with("/recipe/train", Value::Null);
        assert_eq!(gone.as_deref(), Some("`recipe.train` is a table there, absent now"), "not the whole table");
    }
}
