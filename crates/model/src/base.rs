//! A base model: decoder, tokenizer, chat template, and what exactly they are.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use candle_core::{Device, quantized::gguf_file::Content};
use serde_json::{Map, Value, json};
use understudy_ident::Digest;

use crate::{
    config::ModelConfig,
    decoder::Decoder,
    device::Place,
    error::{ModelError, Result, refuse},
    kernels::bf16::Packed,
    linear::Precision,
    template::{ChatTemplate, Conversation},
    tokenizer::{Rendered, Tokenizer, gguf},
    weights::{GgufSource, HfSource, RandomSource, Weights},
};

/// Everything needed to turn messages into tokens into scores.
#[derive(Debug)]
pub struct BaseModel {
    pub decoder: Decoder,
    pub tokenizer: Tokenizer,
    pub template: ChatTemplate,
    pub digests: BaseDigests,
    /// How the frozen maps really are held here.
    pub precision: Precision,
}

/// What a model is: hexadecimal digests an adapter records and a loader compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseDigests {
    /// Of the weight file's bytes, or of the configuration and every weight file of a directory.
    pub base: String,
    pub tokenizer: String,
    pub template: String,
}

impl BaseModel {
    /// Loads a `.gguf` file, or a Hugging Face directory with `config.json`, `tokenizer.json` and
    /// safetensors. Weights become f32, each held once.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        Self::load_with(path, device, Precision::F32)
    }

    /// The same, holding the frozen maps in a chosen precision. The digests are those of the files
    /// and do not depend on it.
    pub fn load_with(path: &Path, device: &Device, precision: Precision) -> Result<Self> {
        if path.join("config.json").is_file() {
            Self::load_directory(path, &Place::new(device, precision))
        } else if path.is_file() && path.extension().is_some_and(|ext| ext == "gguf") {
            Self::load_gguf(path, &Place::new(device, precision))
        } else {
            Err(ModelError::NotAModel { path: path.to_path_buf() })
        }
    }

    /// A model with weights drawn from a seed, a byte-level tokenizer and a ChatML template.
    pub fn random(config: ModelConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::random_with(config, seed, device, Precision::F32)
    }

    /// The same model in a chosen precision.
    pub fn random_with(
        config: ModelConfig,
        seed: u64,
        device: &Device,
        precision: Precision,
    ) -> Result<Self> {
        Self::random_at(config, seed, Place::new(device, precision))
    }

    pub(crate) fn random_at(config: ModelConfig, seed: u64, place: Place) -> Result<Self> {
        let config = config.checked()?;
        let tokenizer = Tokenizer::byte_level()?;
        if config.vocab < tokenizer.vocab_size() {
            let (vocab, needed) = (config.vocab, tokenizer.vocab_size());
            return Err(refuse!(
                Config,
                "a vocabulary of {vocab} cannot hold {needed} byte tokens"
            ));
        }
        let weights = Weights::load(&config, &mut RandomSource::new(seed), &place)?;
        let base = Digest::of(format!("random {seed} {config:?}").as_bytes()).to_hex();
        let decoder = Decoder::new(config, weights, &place);
        Ok(Self::assemble(decoder, tokenizer, ChatTemplate::chatml()?, base, place.precision))
    }

    /// Rows of a pass that products take together: fewer cost as much, and one more as much again.
    /// One where every row costs its own.
    pub fn rows_at_once(&self) -> usize {
        let by_loops = self.precision == Precision::Bf16 && self.decoder.device().is_cpu();
        if by_loops { Packed::rows_at_once() } else { 1 }
    }

    /// The ids a conversation becomes, when serving and when training. Markers the template writes
    /// are special; the same characters in a message, an argument or a definition are text.
    pub fn encode_chat(&self, chat: &Conversation<'_>) -> Result<Vec<u32>> {
        self.tokenizer.encode_rendered(&self.render_chat(chat)?)
    }

    /// The text of a conversation, before it becomes ids.
    pub fn render_chat(&self, chat: &Conversation<'_>) -> Result<Rendered> {
        self.render_chat_with(&self.template, chat)
    }

    /// The same through another template.
    pub fn render_chat_with(
        &self,
        template: &ChatTemplate,
        chat: &Conversation<'_>,
    ) -> Result<Rendered> {
        template.write(chat, self.tokenizer.markers())
    }

    fn load_gguf(path: &Path, place: &Place) -> Result<Self> {
        let base = file_digest(path)?.to_hex();
        let (mut source, config) = GgufSource::open(path)?;
        let tokenizer = Tokenizer::from_gguf(source.content())?;
        let template = gguf_template(source.content())?;
        let weights = Weights::load(&config, &mut source, place)?;
        let decoder = Decoder::new(config, weights, place);
        Ok(Self::assemble(decoder, tokenizer, template, base, place.precision))
    }

    fn load_directory(directory: &Path, place: &Place) -> Result<Self> {
        let text = read_text(&directory.join("config.json"))?;
        let config = ModelConfig::from_hf(&text)?;
        let mut digests = vec![Digest::of(text.as_bytes())];
        for file in HfSource::files(directory)? {
            digests.push(file_digest(&file)?);
        }
        let base = Digest::of_parts(digests.iter().map(|digest| digest.as_bytes().as_slice()));
        let tokenizer = Tokenizer::from_directory(directory)?;
        let template = directory_template(directory)?;
        let weights = Weights::load(&config, &mut HfSource::open(directory)?, place)?;
        let decoder = Decoder::new(config, weights, place);
        Ok(Self::assemble(decoder, tokenizer, template, base.to_hex(), place.precision))
    }

    fn assemble(
        decoder: Decoder,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        base: String,
        precision: Precision,
    ) -> Self {
        let digests = BaseDigests {
            base,
            tokenizer: tokenizer.digest().to_owned(),
            template: template.digest().to_owned(),
        };
        Self { decoder, tokenizer, template, digests, precision }
    }
}

fn gguf_template(content: &Content) -> Result<ChatTemplate> {
    let source = gguf::chat_template(content)
        .ok_or_else(|| refuse!(Template, "the GGUF file has none; use a chat model"))?;
    let mut special = Map::new();
    for name in ["bos", "eos", "unk"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        if let Some(text) = gguf::special_text(content, &key) {
            special.insert(format!("{name}_token"), json!(text));
        }
    }
    ChatTemplate::new(&source, special)
}

/// The template lies in its own file or in `tokenizer_config.json`, where the special tokens are.
fn directory_template(directory: &Path) -> Result<ChatTemplate> {
    let config = directory.join("tokenizer_config.json");
    let config: Value = if config.is_file() {
        serde_json::from_str(&read_text(&config)?)
            .map_err(|error| refuse!(Template, "tokenizer_config.json is not JSON: {error}"))?
    } else {
        Value::Null
    };
    let file = directory.join("chat_template.jinja");
    let source = match (file.is_file(), &config["chat_template"]) {
        (true, _) => read_text(&file)?,
        (false, Value::String(text)) => text.clone(),
        (false, Value::Array(named)) => named
            .iter()
            .find(|template| template["name"] == "default")
            .and_then(|template| template["template"].as_str())
            .map(str::to_owned)
            .ok_or_else(|| refuse!(Template, "tokenizer_config.json has no default template"))?,
        _ => return Err(refuse!(Template, "{} has none; use a chat model", directory.display())),
    };
    let mut special = Map::new();
    for name in ["bos_token", "eos_token", "unk_token", "pad_token"] {
        let token = &config[name];
        if let Some(text) = token.as_str().or_else(|| token["content"].as_str()) {
            special.insert(name.to_owned(), json!(text));
        }
    }
    ChatTemplate::new(&source, special)
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|source| ModelError::Read { path: PathBuf::from(path), source })
}

fn file_digest(path: &Path) -> Result<Digest> {
    let read = |source| ModelError::Read { path: PathBuf::from(path), source };
    Digest::of_reader(File::open(path).map_err(read)?).map_err(read)
}
