//! What the operator of the desk declares. Nothing here gives a convention away.

use understudy_memory::{Access, Argument, Catalogue, Intent, ToolSchema};

/// Twelve tools, one agent, four kinds of task.
pub fn catalogue() -> Catalogue {
    let read = Access::Read;
    let write = Access::Write;
    let tools = vec![
        tool("orders.find", read, "find an order by its number", &[("number", true)]),
        tool("orders.cancel", write, "cancel an order", &[("order_id", true)]),
        tool("customers.get", read, "read a customer", &[("customer_id", true)]),
        tool("refunds.quote", read, "say what a refund would be", &[("order_id", true)]),
        tool("refunds.create", write, "pay money back", &[("order_id", true), ("amount", true)]),
        tool("shipments.track", read, "ask the carrier where a parcel is", &[("order_id", true)]),
        tool("shipments.history", read, "list where a parcel was seen", &[("order_id", true)]),
        tool("addresses.validate", read, "check an address", &[("address", true)]),
        tool(
            "addresses.update",
            write,
            "change an address",
            &[("order_id", true), ("address", true)],
        ),
        with_values(tool("stock.check", read, "count the items in stock", &[("order_id", true)])),
        tool("stock.reserve", write, "reserve items", &[("order_id", true), ("count", true)]),
        tool(
            "notes.add",
            write,
            "add a note to a customer",
            &[("customer_id", true), ("text", true)],
        ),
    ];
    let intents = vec![
        intent("refund-order", "refund an order, give money back", "I want my money back"),
        intent(
            "track-parcel",
            "track where the parcel of an order is",
            "where is my parcel, track it",
        ),
        intent(
            "change-address",
            "change the delivery address of an order",
            "new address for my order",
        ),
        intent("reserve-stock", "reserve items in stock for an order", "reserve the stock"),
    ];
    Catalogue { agents: vec!["desk".to_owned()], tools, intents, ..Catalogue::default() }
}

pub(crate) fn tool(
    name: &str,
    access: Access,
    description: &str,
    arguments: &[(&str, bool)],
) -> ToolSchema {
    let argument = |(name, required): &(&str, bool)| Argument {
        name: (*name).to_owned(),
        required: *required,
        values: Vec::new(),
    };
    ToolSchema {
        name: name.to_owned(),
        description: description.to_owned(),
        access,
        target: None,
        target_argument: None,
        arguments: arguments.iter().map(argument).collect(),
    }
}

fn with_values(mut stock: ToolSchema) -> ToolSchema {
    let values = vec!["nightly".to_owned(), "live".to_owned()];
    stock.arguments.push(Argument { name: "count_source".to_owned(), required: false, values });
    stock
}

fn intent(name: &str, description: &str, example: &str) -> Intent {
    Intent {
        name: name.to_owned(),
        description: description.to_owned(),
        examples: vec![example.to_owned()],
        excluded: false,
    }
}
