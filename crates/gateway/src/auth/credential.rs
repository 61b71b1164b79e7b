//! Where clients put their key.
//!
//! | client | header |
//! | --- | --- |
//! | OpenAI's, vLLM's, OTLP exporters | `authorization: Bearer us_…` |
//! | LangSmith's, Anthropic's | `x-api-key: us_…` |
//! | Langfuse's | `authorization: Basic …`, with the key as the secret key, or as the public one |

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// No key is as long, and nobody has to decode more.
const LONGEST: usize = 1024;

/// The text that may be a key. Where a request brings two, it is not ours to choose.
pub(super) fn presented(headers: &HeaderMap) -> Option<String> {
    let one = |name| {
        let mut all = headers.get_all(name).iter();
        let first = all.next()?;
        // Two keys are no key.
        if all.next().is_some() { Some("") } else { Some(first.to_str().unwrap_or_default()) }
    };
    match one(header::AUTHORIZATION.as_str()) {
        Some(value) => Some(of_authorization(value).unwrap_or_default()),
        None => one("x-api-key").map(|key| key.trim().to_owned()),
    }
}

fn of_authorization(value: &str) -> Option<String> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    let rest = rest.trim();
    if rest.len() > LONGEST {
        return None;
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    let is_key = |text: &&str| text.starts_with("us_");
    [password, name].into_iter().find(is_key).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        presented(&headers)
    }

    #[test]
    fn every_client_finds_a_place_for_its_key() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for value in [
            "Bearer us_1_2".to_owned(),
            "bearer   us_1_2 ".to_owned(),
            basic("pk-lf-1:us_1_2"),
            basic("us_1_2:"),
        ] {
            assert_eq!(of(&[("authorization", &value)]).as_deref(), Some("us_1_2"), "{value}");
        }
        assert_eq!(of(&[("x-api-key", "us_1_2")]).as_deref(), Some("us_1_2"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn what_is_none_or_two_is_no_key() {
        let long = format!("Bearer {}", "x".repeat(2000));
        for value in ["us_1_2", "Digest us_1_2", "Basic %%%", "Basic", "", &long] {
            assert_eq!(of(&[("authorization", value)]).as_deref(), Some(""), "{value}");
        }
        let two = [("authorization", "Bearer us_1_2"), ("authorization", "Bearer us_3_4")];
        assert_eq!(of(&two).as_deref(), Some(""));
    }
}
