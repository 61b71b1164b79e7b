//! What an OTLP receiver answers, in the encoding it was asked in.
//!
//! Follows `ExportTracePartialSuccess` of opentelemetry-proto and `google.rpc.Status`. Both have a
//! number in field 1 and a text in field 2, and the answer of an export has the former in field 1.

use prost::Message;
use serde_json::json;

use super::{Decoded, Encoding, Payload};

impl Decoded {
    /// The body of a success. What it counts as rejected a client must not send again.
    pub fn answer(&self, payload: &Payload, encoding: Encoding) -> Vec<u8> {
        match (encoding, self.rejected.first()) {
            (Encoding::Json, _) => self.partial_success(payload).to_string().into_bytes(),
            (Encoding::Protobuf, None) => Vec::new(),
            (Encoding::Protobuf, Some(first)) => {
                let (number, text) = (self.rejected.len() as i64, first.clone());
                Answer { partial_success: Some(Pair { number, text }) }.encode_to_vec()
            }
        }
    }
}

/// The body of a refusal: a `google.rpc.Status` with a code of `google.rpc.Code`.
pub fn refusal(code: u8, why: &str, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Json => json!({"code": code, "message": why}).to_string().into_bytes(),
        Encoding::Protobuf => {
            Pair { number: i64::from(code), text: why.to_owned() }.encode_to_vec()
        }
    }
}

/// What gRPC calls `grpc-status-details-bin`: the status of a refusal, and after how many seconds
/// sending again can help, if at all.
pub fn status_details(code: u8, why: &str, retry_after: Option<u64>) -> Vec<u8> {
    let retry = retry_after.map(|seconds| {
        let info = RetryInfo { delay: Some(Pair { number: seconds as i64, text: String::new() }) };
        Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec(),
        }
    });
    let status = Status {
        code: i32::from(code),
        message: why.to_owned(),
        details: retry.into_iter().collect(),
    };
    status.encode_to_vec()
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Its delay is a `Duration`, whose seconds are in field 1; it has no fraction here.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(int64, tag = "1")]
    number: i64,
    #[prost(string, tag = "2")]
    text: String,
}
