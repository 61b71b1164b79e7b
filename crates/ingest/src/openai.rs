//! OpenAI fine-tuning files: `{"messages": […]}`, with `tools` where the assistant had any.

use serde_json::Value;
use understudy_trajectory::Signal;

use crate::{
    Row,
    example::{Example, messages, split_reply, tools},
};

pub(crate) fn read(row: &Row) -> Result<Example, String> {
    let list = row.get("messages").ok_or("there is no field `messages`")?;
    // The format's own way of saying "do not learn this".
    let last = list.as_array().and_then(|messages| messages.last());
    if last.and_then(|last| last.get("weight")).and_then(Value::as_f64) == Some(0.0) {
        return Err("the last message has weight 0, which means not to learn it".to_owned());
    }
    let (prompt, reply) = split_reply("messages", messages("messages", list)?)?;
    Ok(Example { prompt, reply, tools: tools(row)?, signal: Signal::Accept })
}
