//! Repeating production without touching it.

use serde_json::{Value, json};
use understudy_ident::Timestamp;
use understudy_memory::{Access, Catalogue, Failure, Matching, Miss, Part, Reader, Shadow};
use understudy_toolworld::{Agent, Desk, Request, catalogue};

/// A live system that counts what is done to it, and lets nothing but reads pass.
struct Live<'a> {
    desk: Desk,
    catalogue: &'a Catalogue,
    reads: usize,
    writes: usize,
}

impl Reader for Live<'_> {
    fn read(&mut self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        let at = self.catalogue.tool(tool).expect("only declared tools are read");
        match self.catalogue.schema(at).access {
            Access::Read => self.reads += 1,
            Access::Write | Access::Unknown => self.writes += 1,
        }
        self.desk.call(tool, arguments)
    }
}

#[test]
fn a_hundred_replays_write_nothing() {
    let catalogue = catalogue();
    let (mut stubbed, mut reads) = (0, 0);
    for n in 0..100 {
        let request = Request::draw(11, n);
        let at = Timestamp::UNIX_EPOCH;
        let recorded = Agent::student().play(&request, None, 1, at).transcript.calls;
        let mut live =
            Live { desk: Desk::new(&request), catalogue: &catalogue, reads: 0, writes: 0 };
        // Another seed does other things: some reads are recorded, others are live.
        let student = Agent { part: Part::Student, ..Agent::student() };
        let mut shadow =
            Shadow::new(&catalogue, recorded, (Matching::Strict, Miss::LiveRead), &mut live);
        let transcript = student.play_with(&request, (None, 2, at), &mut |tool, arguments| {
            shadow.call(tool, arguments)
        });
        let report = shadow.finish();
        stubbed += report.stubbed_writes;
        reads += live.reads;
        assert_eq!((live.writes, live.desk.writes), (0, 0), "request {n}");
        let writes = transcript.calls.iter().filter(|call| {
            let at = catalogue.tool(&call.tool).unwrap();
            catalogue.schema(at).access.may_write()
        });
        assert_eq!(writes.count(), report.stubbed_writes);
    }
    assert!(stubbed > 50 && reads > 20, "{stubbed} {reads}");
}

#[test]
fn a_tool_of_unknown_access_is_never_read_live() {
    let mut catalogue = catalogue();
    catalogue.tools[0].access = Access::Unknown;
    let request = Request::draw(11, 0);
    let mut live = Live { desk: Desk::new(&request), catalogue: &catalogue, reads: 0, writes: 0 };
    let mut shadow =
        Shadow::new(&catalogue, Vec::new(), (Matching::Strict, Miss::LiveRead), &mut live);
    shadow.call("orders.find", &json!({"number": "1"})).unwrap();
    shadow.call("never.declared", &json!({})).unwrap();
    let report = shadow.finish();
    assert_eq!((live.reads, live.writes, report.stubbed_writes), (0, 0, 2));
}
