//! The engine as those who load adapters and count tokens see it.

use understudy_inference::{
    AdapterInfo, InferenceError, LoadAdapter, LoadTiming, LoadedAdapter, Prompt, Stats, Student,
};

use crate::{
    engine::{Engine, Shared},
    load,
};

impl Student for Engine {
    fn publish_adapter(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        let Shared { model, store, .. } = &*self.shared;
        if load != LoadAdapter::new(&load.alias, &load.directory) {
            return Err(InferenceError::Unsupported("conditional or pinned loads"));
        }
        self.shared.check_alias(&load.alias)?;
        let generation = load::load(model, &load.alias, &load.directory)?;
        let adapter = store.publish(&load.alias, generation);
        Ok(LoadedAdapter { adapter, replaced: None, timing: LoadTiming::default() })
    }

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError> {
        self.shared.store.unload(alias)
    }

    fn rollback_adapter(
        &self,
        alias: &str,
        to: Option<&str>,
    ) -> Result<AdapterInfo, InferenceError> {
        match to {
            None => self.shared.store.rollback(alias),
            Some(_) => Err(InferenceError::Unsupported("rollback to a named generation")),
        }
    }

    fn adapters(&self) -> Vec<AdapterInfo> {
        self.shared.store.list()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, InferenceError> {
        self.shared.prompt_ids(prompt.clone())
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, InferenceError> {
        let text = self.shared.model.tokenizer.decode(ids);
        text.map_err(|error| InferenceError::invalid("tokens", error.to_string()))
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.shared.model.tokenizer.token_bytes(id).map(<[u8]>::to_vec)
    }

    fn context(&self) -> usize {
        self.shared.context
    }

    fn stats(&self) -> Stats {
        self.shared.counters.snapshot(&self.shared.config)
    }

    fn check(&self) -> Result<(), InferenceError> {
        match &self.shared.thread {
            Some(thread) if !thread.is_finished() => Ok(()),
            _ => Err(InferenceError::Failed("the engine's thread has ended".to_owned())),
        }
    }

    fn pause(&self) {
        self.shared.hold(true);
    }

    fn resume(&self) {
        self.shared.hold(false);
    }

    fn is_paused(&self) -> bool {
        self.shared.is_paused()
    }
}
