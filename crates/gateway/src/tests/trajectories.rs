//! Reading back what was said.

use serde_json::{Value, json};

use super::{CHAT, chat, start, telemetry::export, with};

fn ids(listed: &Value) -> Vec<String> {
    let rows = listed["trajectories"].as_array().unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_trajectory_is_told_with_its_steps_and_what_was_done_about_them() {
    let server = start();
    let say = |session: &str, text: &str| {
        let reply = server.post(CHAT, &with(chat(text), json!({"session_id": session})));
        assert_eq!(reply.status, 200, "{}", reply.text);
        (reply.header("x-understudy-trajectory").unwrap().to_owned(), reply.json()["id"].clone())
    };
    let (id, first) = say("s1", "one");
    let (again, _) = say("s1", "two");
    let (other, _) = say("s2", "three");
    assert_eq!(id, again);
    let accepted = json!({"signal": "accept", "response_id": first});
    assert_eq!(server.post("/v1/feedback", &accepted).status, 202);

    let told = server.get(&format!("/api/v1/trajectories/{id}")).json();
    assert_eq!(told["id"], json!(id));
    let steps = told["steps"].as_array().unwrap();
    let asked = |nth: usize| steps[nth]["step"]["prompt"][0]["content"].clone();
    assert_eq!((steps.len(), asked(0), asked(1)), (2, json!("one"), json!("two")));
    assert_eq!(steps[0]["outcomes"][0]["signal"]["kind"], "accept", "{told}");
    assert_eq!(steps[1]["outcomes"], json!([]));
    assert!(steps[0]["step"]["tokens"]["completion_ids"].is_array(), "{told}");
    assert_eq!(told["conversation"], Value::Null, "nobody told of it but the server itself");

    let listed = server.get("/api/v1/trajectories").json();
    let mut expected = [id.clone(), other];
    expected.sort();
    assert_eq!((ids(&listed), &listed["after"]), (expected.to_vec(), &Value::Null));
    let row = listed["trajectories"].as_array().unwrap().iter().find(|row| row["id"] == json!(id));
    assert_eq!(row.unwrap()["steps"], 2);
    assert_eq!(row.unwrap()["session"], "s1");
    // A page after the other.
    let page = server.get("/api/v1/trajectories?limit=1").json();
    assert_eq!(ids(&page), expected[..1]);
    let next = format!("/api/v1/trajectories?limit=1&after={}", page["after"].as_str().unwrap());
    let page = server.get(&next).json();
    assert_eq!(ids(&page), expected[1..]);
    let next = format!("/api/v1/trajectories?limit=1&after={}", page["after"].as_str().unwrap());
    assert_eq!(server.get(&next).json(), json!({"trajectories": [], "after": null}));
    assert_eq!(ids(&server.get("/api/v1/trajectories?task=nothing").json()), [""; 0]);
}

#[test]
fn what_telemetry_told_comes_with_its_conversation() {
    let server = start();
    assert_eq!(server.post("/v1/traces", &export(7, "told")).status, 200);
    server.shows(&["told"]);
    let listed = server.get("/api/v1/trajectories").json();
    let path = format!("/api/v1/trajectories/{}", ids(&listed)[0]);
    let told = server.get(&path).json();
    assert_eq!(told["steps"][0]["step"]["reply"]["content"], "told");
    let conversation = &told["conversation"];
    assert_eq!(conversation["id"], told["id"], "{told}");
    assert_eq!(conversation["spans"][0]["name"], "chat");
    // Without the raw bodies there is what was made of them.
    server.journal.expire_bodies(understudy_ident::Timestamp::MAX).unwrap();
    let later = server.get(&path).json();
    assert_eq!((&later["steps"], &later["conversation"]), (&told["steps"], &Value::Null));
}

#[test]
fn what_is_no_id_and_what_is_not_there_are_told_apart() {
    let server = start();
    let path = "/api/v1/trajectories";
    assert_eq!(server.get(&format!("{path}/traj_nobody")).status, 404);
    let wrong = server.get(&format!("{path}/step_1"));
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (400, &json!("id")));
    for (query, field) in [("limit=0", "limit"), ("limit=5000", "limit"), ("after=x", "after")] {
        let wrong = server.get(&format!("{path}?{query}"));
        assert_eq!(
            (wrong.status, &wrong.json()["error"]["param"]),
            (400, &json!(field)),
            "{query}"
        );
    }
    assert_eq!(server.get(&format!("{path}?since=1")).status, 400);
}
