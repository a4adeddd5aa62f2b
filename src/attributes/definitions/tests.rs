use time::macros::date;

use super::*;

fn mistakes(json: &str) -> Vec<String> {
    Definitions::parse(json.as_bytes()).unwrap_err().0
}

#[test]
fn a_default_attribute_brings_its_columns_unit_and_bounds() {
    let json = r#"{"version":1,"attributes":[{"name":"Call hours","roles":{"Manager":["report-filters"]}},
        {"name":"Collaboration hours","max":[15,20,25.5]},{"name":"Focus","metric":"TotalFocusHours","max":[5,10,15]}],
        "programs":[{"name":"Engagement","cycles":[{"name":"Oct","start":"2024-10-08","end":"2024-10-15"}]}]}"#;
    let read = Definitions::parse(json.as_bytes()).unwrap();
    assert_eq!((read.min_group_size, read.include_inactive_weeks, read.with_values), (5, true, false));
    let [calls, collaboration, focus] = &read.attributes[..] else { panic!("three attributes") };
    assert_eq!(calls.older_columns, ["CollaborationHoursScheduledCalls", "CollaborationHoursAdhocCalls"]);
    assert_eq!(calls.labels(), ["0 to less than 5", "5 to less than 10", "10 to less than 15", "15 or more"]);
    assert_eq!(calls.roles, [("Manager".to_owned(), vec!["report-filters".to_owned()])]);
    assert_eq!(collaboration.labels()[3], "25.5 or more");
    assert_eq!((focus.column.as_str(), focus.unit.as_str()), ("TotalFocusHours", "Hour"));
    assert_eq!(read.programs[0].cycles[0].end, date!(2024 - 10 - 15));
}

#[test]
fn every_mistake_is_named_at_once() {
    let found = mistakes(
        r#"{"minGroupSize":4,"minimumGroupSize":9,"attributes":[{"name":"Steps per day"},{"name":"Collaboration hours"},
        {"name":"Email hours","max":[4,4,6],"roles":{"Manager":["reports"]}}],
        "programs":[{"name":"P","cycles":[{"name":"Autumn","start":"2024-10-08","end":"2024-10-01"}]}]}"#,
    );
    let expected = [
        "minimumGroupSize",
        "`minGroupSize`",
        "Steps per day",
        "Collaboration hours",
        "`reports`",
        "ascending",
        "Autumn",
    ];
    for text in expected {
        assert!(found.iter().any(|mistake| mistake.contains(text)), "{text}: {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_metric_belongs_to_one_attribute() {
    for other in [r#""metric":"Email hours""#, r#""metric":"CollaborationHoursEmails""#] {
        let json = format!(r#"{{"attributes":[{{"name":"Email hours"}},{{"name":"Mail",{other},"max":[1,2,3]}}]}}"#);
        assert!(mistakes(&json)[0].contains("another attribute has its metric"), "{json}");
    }
}

#[test]
fn a_default_attribute_without_a_metric_keeps_its_unit() {
    let found = mistakes(r#"{"attributes":[{"name":"Internal network size","unit":"Hour"}]}"#);
    assert!(found.len() == 1 && found[0].contains("`unit`"), "{found:#?}");
    let json = br#"{"attributes":[{"name":"Internal network size","unit":"Count"}]}"#;
    assert_eq!(Definitions::parse(json).unwrap().attributes[0].unit, "Count");
    let json = br#"{"attributes":[{"name":"Email hours","metric":"E","unit":"Count","max":[1,2,3]}]}"#;
    assert_eq!(Definitions::parse(json).unwrap().attributes[0].unit, "Count");
}

#[test]
fn bounds_are_three_ascending_numbers_with_at_most_six_decimals() {
    for bounds in
        ["[1,2]", "[1,2,3,4]", "[0,1,2]", "[-1,1,2]", "[3,2,1]", "[1,2,1e9]", "[1e-7,1,2]", "\"1,2,3\"", "[1,2,\"3\"]"]
    {
        let json = format!(r#"{{"attributes":[{{"name":"Email hours","max":{bounds}}}]}}"#);
        assert_eq!(mistakes(&json).len(), 1, "{bounds}");
    }
    let json = r#"{"attributes":[{"name":"Email hours","max":[1.5e-1,0.2500000,20.123456]}]}"#;
    assert_eq!(Definitions::parse(json.as_bytes()).unwrap().attributes[0].bounds, [150_000, 250_000, 20_123_456]);
}

#[test]
fn names_have_1_to_64_characters_and_are_unique() {
    let long = "x".repeat(65);
    for names in [["a", "a"], ["", "b"], [long.as_str(), "b"]] {
        let [first, second] = [0, 1].map(|at| format!(r#"{{"name":"{}","metric":"m{at}","max":[1,2,3]}}"#, names[at]));
        assert_eq!(mistakes(&format!(r#"{{"attributes":[{first},{second}]}}"#)).len(), 1);
    }
}

#[test]
fn a_blank_name_role_metric_or_unit_is_a_mistake() {
    let cases = [
        (r#"{"name":" ","metric":"m","max":[1,2,3]}"#, "attribute 1: the name is blank"),
        (r#"{"name":"A","metric":"","max":[1,2,3]}"#, "attribute `A`: `metric` is blank"),
        (r#"{"name":"A","metric":"m","unit":"","max":[1,2,3]}"#, "attribute `A`: `unit` is blank"),
        (r#"{"name":"Email hours","roles":{"":[]}}"#, "attribute `Email hours`, role ``: the name `` does not have"),
        (r#"{"name":"Email hours","roles":{" ":[]}}"#, "attribute `Email hours`, role ` `: the name is blank"),
    ];
    for (attribute, beginning) in cases {
        let found = mistakes(&format!(r#"{{"attributes":[{attribute}]}}"#));
        assert!(found.len() == 1 && found[0].starts_with(beginning), "{found:#?}");
    }
    let role = "x".repeat(65);
    let found = mistakes(&format!(r#"{{"attributes":[{{"name":"Email hours","roles":{{"{role}":[]}}}}]}}"#));
    assert!(found.len() == 1 && found[0].contains("1 to 64"), "{found:#?}");
}

#[test]
fn a_unit_that_is_hour_in_another_spelling_is_a_mistake() {
    for unit in ["hour", "hours", "Hours", "HOUR", "Hour "] {
        for attribute in [r#""name":"Email hours""#, r#""name":"A","metric":"m","max":[1,2,3]"#] {
            let found = mistakes(&format!(r#"{{"attributes":[{{{attribute},"unit":"{unit}"}}]}}"#));
            assert!(found.len() == 1 && found[0].contains("is not `Hour`"), "{unit}: {found:#?}");
        }
    }
}

#[test]
fn an_unknown_member_is_reported_with_the_name_of_its_attribute_program_or_cycle() {
    let found = mistakes(
        r#"{"attributes":[{"bounds":1,"name":"Email hours"},{"bounds":1}],
        "programs":[{"name":"P","cycle":[],"cycles":[{"name":"C","to":1,"start":"2024-10-08","end":"2024-10-15"}]},
            {"name":"P","cycle":[],"cycles":[]}]}"#,
    );
    let expected = [
        "attribute `Email hours`: unknown member `bounds`",
        "attribute 2: has no `name`",
        "attribute 2: unknown member `bounds`",
        "program `P`: unknown member `cycle`",
        "program `P`, cycle `C`: unknown member `to`",
        "program 2: the name `P` is used twice",
        "program 2: unknown member `cycle`",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (mistake, beginning) in found.iter().zip(expected) {
        assert!(mistake.starts_with(beginning), "{mistake}");
    }
}

#[test]
fn strings_may_have_escapes() {
    let json = br#"{"inactiveWeeks":"exclud\u0065","attributes":[{"name":"Em\u0061il hours"}]}"#;
    let definitions = Definitions::parse(json).unwrap();
    assert_eq!((definitions.include_inactive_weeks, &*definitions.attributes[0].name), (false, "Email hours"));
}

#[test]
fn text_that_is_not_an_object_is_one_mistake() {
    assert!(mistakes(r#"{"version":1,"attributes":["#)[0].contains("not valid JSON"));
    assert!(mistakes("[]")[0].contains("not a JSON object"));
    assert!(mistakes("{}")[0].contains("no `attributes`"));
    assert!(mistakes(r#"{"version":2,"attributes":[{"name":"Email hours"}]}"#)[0].contains("version"));
}

#[test]
fn the_list_of_attributes_may_be_empty_but_not_missing() {
    let cycle = r#"{"name":"Oct","start":"2024-10-08","end":"2024-10-15"}"#;
    let programs = format!(r#""programs":[{{"name":"Engagement","cycles":[{cycle}]}}]"#);
    let definitions = Definitions::parse(format!(r#"{{"attributes":[],{programs}}}"#).as_bytes()).unwrap();
    assert_eq!(Definitions::parse(definitions.to_json().as_bytes()).unwrap(), definitions);
    assert!(definitions.due_cycles(date!(2024 - 10 - 15)).is_empty(), "there is nothing to import");
    assert_eq!(mistakes(&format!("{{{programs}}}")).len(), 1);
}
