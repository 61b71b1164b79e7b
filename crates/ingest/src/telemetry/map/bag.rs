//! Attributes that rules take out, so that what is left is what nobody understood.

use std::collections::BTreeMap;

use serde_json::Value;

/// How many steps of a dotted name are taken apart: more than any dialect has, and few enough for
/// every stack.
const DEEPEST: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Bag {
    attributes: BTreeMap<String, Value>,
    /// JSON texts that were cut off, and attributes or events of which some were dropped.
    pub(crate) truncated: usize,
}

impl Bag {
    /// Null is how clients say nothing.
    pub(crate) fn new(mut attributes: BTreeMap<String, Value>) -> Self {
        attributes.retain(|_, value| !value.is_null());
        Self { attributes, truncated: 0 }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        self.attributes.get(name)
    }

    /// Adds attributes where there are none.
    pub(crate) fn fill(&mut self, more: &BTreeMap<String, Value>) {
        for (name, value) in more.iter().filter(|(_, value)| !value.is_null()) {
            self.attributes.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.attributes.remove(name)
    }

    /// A text that says something; anything else stays where it is.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.attributes.get(name) {
            Some(Value::String(text)) if !text.is_empty() => {
                let text = text.clone();
                self.attributes.remove(name);
                Some(text)
            }
            _ => None,
        }
    }

    /// The first of several names that has a text; the others stay.
    pub(crate) fn first_text(&mut self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    pub(crate) fn count(&mut self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| {
            let count = match self.attributes.get(*name)? {
                Value::String(text) => text.parse().ok()?,
                value => value.as_u64()?,
            };
            self.attributes.remove(*name);
            Some(count)
        })
    }

    /// A structure, or one written as JSON text; of a list that was cut off, its whole items.
    pub(crate) fn json(&mut self, name: &str) -> Option<Value> {
        let value = self.take(name)?;
        let Value::String(text) = &value else { return Some(value) };
        match serde_json::from_str(text) {
            Ok(parsed) => Some(parsed),
            Err(_) if text.trim_start().starts_with(['[', '{']) => {
                self.truncated += 1;
                Some(Value::Array(whole_items(text)))
            }
            Err(_) => Some(value),
        }
    }

    /// `prefix.0.a`, `prefix.1.b.c`… as a list of trees.
    pub(crate) fn list(&mut self, prefix: &str) -> Vec<Value> {
        let start = format!("{prefix}.");
        let names: Vec<String> = self
            .attributes
            .range(start.clone()..)
            .map(|(name, _)| name.clone())
            .take_while(|name| name.starts_with(&start))
            .collect();
        let mut tree = Tree::default();
        for name in names {
            if let Some(value) = self.attributes.remove(&name) {
                tree.insert(name[start.len()..].splitn(DEEPEST, '.'), value);
            }
        }
        match tree.into_value() {
            Value::Array(items) => items,
            other => vec![other],
        }
        .into_iter()
        .filter(|item| !item.is_null())
        .collect()
    }

    /// Forgets attributes that only say how to show others.
    pub(crate) fn discard(&mut self, names: &[&str]) {
        for name in names {
            self.attributes.remove(*name);
        }
    }

    pub(crate) fn into_rest(self) -> BTreeMap<String, Value> {
        self.attributes
    }
}

/// Flat names folded back. A node with both a value and children keeps the children.
#[derive(Debug, Default)]
struct Tree {
    value: Option<Value>,
    children: BTreeMap<String, Tree>,
}

impl Tree {
    fn insert<'a>(&mut self, mut path: impl Iterator<Item = &'a str>, value: Value) {
        match path.next() {
            None => self.value = Some(value),
            Some(step) => self.children.entry(step.to_owned()).or_default().insert(path, value),
        }
    }

    fn into_value(self) -> Value {
        if self.children.is_empty() {
            return self.value.unwrap_or(Value::Null);
        }
        let is_list = self.children.keys().all(|name| name.parse::<usize>().is_ok());
        if !is_list {
            let fields = self.children.into_iter().map(|(name, tree)| (name, tree.into_value()));
            return Value::Object(fields.collect());
        }
        let mut items: Vec<(usize, Tree)> = self
            .children
            .into_iter()
            .map(|(name, tree)| (name.parse().unwrap_or(usize::MAX), tree))
            .collect();
        items.sort_by_key(|(place, _)| *place);
        items.into_iter().map(|(_, tree)| tree.into_value()).collect()
    }
}

/// The items of a JSON list that end before the text does.
fn whole_items(text: &str) -> Vec<Value> {
    let Some(inside) = text.trim_start().strip_prefix('[') else { return Vec::new() };
    let mut items = Vec::new();
    let mut rest = inside;
    loop {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let Some(Ok(item)) = stream.next() else { return items };
        let read = stream.byte_offset();
        items.push(item);
        let Some(next) = rest[read..].trim_start().strip_prefix(',') else { return items };
        rest = next;
    }
}
