//! Bodies of requests in OpenAI's and vLLM's words: read, or refused with a bounded message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_openai::{
    ChatRequest, CompletionRequest, DetokenizeBody, GenerateBody, LoadBody, RollbackBody,
    TokenizeBody, UnloadBody,
};

fuzz_target!(|data: &[u8]| {
    let why = [
        ChatRequest::parse(data).err(),
        CompletionRequest::parse(data).err(),
        GenerateBody::parse(data).err(),
        TokenizeBody::parse(data).err(),
        DetokenizeBody::parse(data).err(),
        LoadBody::parse(data).err(),
        UnloadBody::parse(data).err(),
        RollbackBody::parse(data).err(),
    ];
    for why in why.into_iter().flatten() {
        assert!(why.to_string().len() < 4096);
    }
});
