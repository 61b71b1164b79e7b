//! A JSON body as named fields: `null` means absent, and whatever is wrong is named.

use serde_json::{Map, Value};

use crate::error::RequestError;

type Result<T> = std::result::Result<T, RequestError>;

/// The fields of one object.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// What stands before a field's name in errors, such as `sampling_params.`.
    prefix: &'static str,
}

impl Fields {
    pub(crate) fn parse(body: &[u8]) -> Result<Self> {
        let body: Value =
            serde_json::from_slice(body).map_err(|why| RequestError::NotJson(why.to_string()))?;
        let Value::Object(map) = body else { return Err(RequestError::NotAnObject) };
        Ok(Self::of(map, ""))
    }

    fn of(mut map: Map<String, Value>, prefix: &'static str) -> Self {
        map.retain(|_, value| !value.is_null());
        Self { map, prefix }
    }

    /// An object inside this one; absent and empty are the same.
    pub(crate) fn inner(&self, name: &'static str, prefix: &'static str) -> Result<Self> {
        let map = self.object(name)?.cloned().unwrap_or_default();
        Ok(Self::of(map, prefix))
    }

    pub(crate) fn get(&self, name: &'static str) -> Option<&Value> {
        #[cfg(test)]
        asked::note(name);
        self.map.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Value> {
        self.map.get(name)
    }

    pub(crate) fn wrong(&self, name: &str, why: impl Into<String>) -> RequestError {
        RequestError::wrong(format!("{}{name}", self.prefix), why)
    }

    pub(crate) fn refused(&self, name: &str) -> RequestError {
        RequestError::Refused { field: format!("{}{name}", self.prefix) }
    }

    /// A fault found in what these fields became, under the field's whole name.
    pub(crate) fn at_fault(&self, error: impl Into<RequestError>) -> RequestError {
        match error.into() {
            RequestError::Wrong { field, why } => self.wrong(&field, why),
            other => other,
        }
    }

    pub(crate) fn missing(&self, name: &str) -> RequestError {
        RequestError::Missing { field: format!("{}{name}", self.prefix) }
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>> {
        self.typed(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn required_text(&self, name: &'static str) -> Result<String> {
        let text = self.text(name)?.ok_or_else(|| self.missing(name))?;
        if text.is_empty() { Err(self.wrong(name, "must not be empty")) } else { Ok(text) }
    }

    pub(crate) fn flag(&self, name: &'static str) -> Result<bool> {
        Ok(self.flag_or_none(name)?.unwrap_or(false))
    }

    pub(crate) fn flag_or_none(&self, name: &'static str) -> Result<Option<bool>> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(crate) fn number(&self, name: &'static str) -> Result<Option<f32>> {
        self.typed(name, "a number", |value| value.as_f64().map(|number| number as f32))
    }

    /// A count; one too large for 32 bits is as good as the largest.
    pub(crate) fn count(&self, name: &'static str) -> Result<Option<u32>> {
        let count = self.typed(name, "a whole number, 0 or more", Value::as_u64)?;
        Ok(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
    }

    pub(crate) fn integer(&self, name: &'static str) -> Result<Option<i64>> {
        self.typed(name, "a whole number", |value| {
            value.as_i64().or_else(|| value.as_u64().map(|large| large as i64))
        })
    }

    pub(crate) fn texts(&self, name: &'static str) -> Result<Vec<String>> {
        let texts = self.typed(name, "a list of strings", |value| {
            let texts = value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned));
            texts.collect()
        })?;
        Ok(texts.unwrap_or_default())
    }

    pub(crate) fn ids(&self, name: &'static str) -> Result<Option<Vec<u32>>> {
        self.typed(name, "a list of token ids", ids)
    }

    pub(crate) fn object(&self, name: &'static str) -> Result<Option<&Map<String, Value>>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_object().map(Some).ok_or_else(|| self.wrong(name, "must be an object"))
            }
        }
    }

    pub(crate) fn list(&self, name: &'static str) -> Result<Option<&Vec<Value>>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_array().map(Some).ok_or_else(|| self.wrong(name, "must be a list"))
            }
        }
    }

    fn typed<T>(
        &self,
        name: &'static str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wrong = || self.wrong(name, format!("must be {expected}"));
        read(value).map(Some).ok_or_else(wrong)
    }
}

/// A list of token ids.
pub(crate) fn ids(value: &Value) -> Option<Vec<u32>> {
    let ids = value.as_array()?.iter().map(|id| u32::try_from(id.as_u64()?).ok());
    ids.collect()
}

/// Which fields a parser looked at, so that a test can hold the documentation against it.
#[cfg(test)]
pub(crate) mod asked {
    use std::{cell::RefCell, collections::BTreeSet};

    thread_local! {
        static ASKED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(crate) fn note(name: &'static str) {
        ASKED.with_borrow_mut(|asked| asked.insert(name));
    }

    pub(crate) fn take() -> BTreeSet<&'static str> {
        ASKED.take()
    }
}
