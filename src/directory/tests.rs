use proptest::prelude::*;

use super::*;

const ANNA: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";
const BOB: &str = "1b4e28ba-2fa1-41d2-883f-0016d3cca427";

fn directory(rules: &DirectoryRules, lines: &[String]) -> Directory {
    let mut builder = DirectoryBuilder::new(rules);
    builder.push(lines.iter().map(|line| line.as_bytes())).unwrap();
    builder.finish()
}

fn by_mail() -> DirectoryRules {
    DirectoryRules { columns: vec!["name".into()], key: "Email=mail".parse().unwrap(), ..DirectoryRules::default() }
}

fn found(directory: &Directory, key: &str) -> String {
    let mut out = Vec::new();
    directory.append(directory.find(key.as_bytes()), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_person_has_the_columns_in_the_order_of_the_rules() {
    let rules = DirectoryRules { columns: vec!["b".into(), "missing".into(), "a".into()], ..DirectoryRules::default() };
    let record = format!(r#"{{"id":"{ANNA}","a":{{"x":[1,null]}},"b":"ä\n","c":3}}"#);
    let directory = directory(&rules, &[record]);
    assert_eq!(found(&directory, &ANNA.to_uppercase()), r#"{"b":"ä\n","missing":null,"a":{"x":[1,null]}}"#);
    assert_eq!(found(&directory, BOB), "null");
    let mut out = Vec::new();
    directory.append(None, &mut out);
    assert_eq!(out, b"null");
}

#[test]
fn the_last_record_of_an_id_counts() {
    let rules = DirectoryRules { columns: vec!["mail".into()], ..DirectoryRules::default() };
    let record = |id: &str, mail: &str| format!(r#"{{"id":"{id}","mail":"{mail}"}}"#);
    let records = [record(ANNA, "old"), record(BOB, "b"), record(&ANNA.to_uppercase(), "new")];
    let directory = directory(&rules, &records);
    assert_eq!((directory.len(), found(&directory, ANNA).as_str()), (2, r#"{"mail":"new"}"#));
}

#[test]
fn an_address_is_looked_up_as_mail_then_user_principal_name_then_alias() {
    let records = [
        format!(
            r#"{{"id":"{ANNA}","mail":"Anna@contoso.example","userPrincipalName":"b@contoso.example","name":"A"}}"#
        ),
        format!(
            r#"{{"id":"{BOB}","mail":"b@Contoso.example","proxyAddresses":["SMTP:b@contoso.example","smtp:Old@contoso.example","sip:x"],"name":"B"}}"#
        ),
    ];
    let directory = directory(&by_mail(), &records);
    assert_eq!(found(&directory, "anna@CONTOSO.example"), r#"{"name":"A"}"#);
    assert_eq!(found(&directory, "b@contoso.example"), r#"{"name":"B"}"#);
    assert_eq!(found(&directory, "old@contoso.example"), r#"{"name":"B"}"#);
    assert_eq!(found(&directory, "x"), "null");
    assert_eq!(found(&directory, ""), "null");
}

#[test]
fn a_row_whose_address_is_blank_matches_nobody() {
    let record =
        format!(r#"{{"id":"{ANNA}","mail":" ","userPrincipalName":"\t","proxyAddresses":["smtp: "],"name":"A"}}"#);
    let directory = directory(&by_mail(), &[record]);
    for key in ["", " ", "\t"] {
        assert_eq!(found(&directory, key), "null", "{key:?}");
    }
}

#[test]
fn an_address_of_two_people_matches_nobody() {
    let record = |id: &str, mail: &str| format!(r#"{{"id":"{id}","mail":"{mail}","name":"N"}}"#);
    let shared = directory(&by_mail(), &[record(ANNA, "s@contoso.example"), record(BOB, "S@contoso.example")]);
    assert_eq!(found(&shared, "s@contoso.example"), "null");
    // An address that a later record gives up is free again.
    let moved =
        [record(ANNA, "s@contoso.example"), record(BOB, "s@contoso.example"), record(ANNA, "a@contoso.example")];
    assert_eq!(found(&directory(&by_mail(), &moved), "s@contoso.example"), r#"{"name":"N"}"#);
    let unused = [&moved[..], &[record(BOB, "b@contoso.example")]].concat();
    assert_eq!(found(&directory(&by_mail(), &unused), "s@contoso.example"), "null");
}

#[test]
fn a_directory_that_does_not_fit_is_an_error() {
    let rules = DirectoryRules { memory: 10_000, ..DirectoryRules::default() };
    let mut builder = DirectoryBuilder::new(&rules);
    let record = |number: u32| format!(r#"{{"id":"{number:08x}-2fa1-41d2-883f-0016d3cca427","mail":"m"}}"#);
    let failure = (0..10_000).find_map(|number| builder.push([record(number).as_bytes()].into_iter()).err()).unwrap();
    assert!((50..400).contains(&failure.people), "{failure}");
}

#[test]
fn people_without_an_address_take_no_more_memory_than_the_table_counts() {
    let mut builder = DirectoryBuilder::new(&by_mail());
    for number in 0..1_000 {
        let record = format!(r#"{{"id":"{number:08x}-2fa1-41d2-883f-0016d3cca427","mail":""}}"#);
        builder.push([record.as_bytes()].into_iter()).unwrap();
    }
    assert_eq!(builder.addresses.bytes(), 0);
}

#[test]
fn a_directory_joined_by_mail_counts_all_memory_of_its_addresses() {
    let mut builder = DirectoryBuilder::new(&by_mail());
    let people = 100_000;
    for number in 0..people {
        let record =
            format!(r#"{{"id":"{number:08x}-2fa1-41d2-883f-0016d3cca427","mail":"{number}@contoso.example"}}"#);
        builder.push([record.as_bytes()].into_iter()).unwrap();
    }
    let buckets = (people * 8 / 7_usize).next_power_of_two();
    let bytes = builder.addresses.bytes();
    assert!((buckets * 25..people * 57).contains(&bytes), "{bytes}");
    // The directory has the same table, not a copy.
    assert_eq!(builder.finish().addresses.bytes(), bytes);
}

#[test]
fn an_alias_list_of_other_values_takes_no_memory() {
    let values =
        format!(r#"[{}"smtp:a@contoso.example",{{"":["smtp:b@contoso.example"]}}]"#, r#"{"":0},"#.repeat(50_000));
    let keys = address_keys([None, None, Some(values.as_bytes())]);
    assert_eq!(keys, [address_key(PROXY_ADDRESSES, b"a@contoso.example").unwrap()]);
    assert!(keys.capacity() < 10);
}

#[test]
fn a_key_names_a_column_and_what_it_is_compared_with() {
    let key = |column: &str, field| Ok(DirectoryKey { column: column.into(), field });
    assert_eq!("ObjectId=id".parse(), key("ObjectId", KeyField::Id));
    assert_eq!("E=mail = mail".parse(), key("E=mail", KeyField::Mail));
    for text in ["", "id", "=id", "ObjectId=", "ObjectId=upn"] {
        assert_eq!(text.parse::<DirectoryKey>(), Err(InvalidDirectoryKey), "{text}");
    }
}

proptest! {
    #[test]
    fn addresses_agree_with_a_map(records in prop::collection::vec((0_u8..6, "[ab]?", "[ab]?", "[ab]?"), 0..20)) {
        let id = |number: u8| format!("{number:08x}-2fa1-41d2-883f-0016d3cca427");
        let line = |(number, mail, name, alias): &(u8, String, String, String)| {
            let (id, aliases) = (id(*number), format!(r#"["smtp:{alias}"]"#));
            let names = format!(r#""mail":"{mail}","userPrincipalName":"{name}","proxyAddresses":{aliases}"#);
            format!(r#"{{"id":"{id}","name":{number},{names}}}"#)
        };
        let directory = directory(&by_mail(), &records.iter().map(line).collect::<Vec<_>>());
        let people: HashMap<u8, [&String; 3]> =
            records.iter().map(|(number, mail, name, alias)| (*number, [mail, name, alias])).collect();
        for address in ["a", "b"] {
            let owners = |column: usize| people.iter().filter(move |(_, has)| has[column] == address).map(|(number, _)| number);
            let first = (0..3).map(|column| owners(column).collect::<Vec<_>>()).find(|owners| !owners.is_empty());
            let expected = match first.as_deref() {
                Some([number]) => format!(r#"{{"name":{number}}}"#),
                _ => "null".into(),
            };
            prop_assert_eq!(found(&directory, address), expected);
        }
    }

    #[test]
    fn a_table_agrees_with_a_map(records in prop::collection::vec((0_u8..20, "[a-z]{0,3}"), 0..60)) {
        let rules = DirectoryRules { columns: vec!["mail".into()], ..DirectoryRules::default() };
        let id = |number: u8| format!("{number:08x}-2fa1-41d2-883f-0016d3cca427");
        let lines: Vec<String> =
            records.iter().map(|(number, mail)| format!(r#"{{"mail":"{mail}","id":"{}"}}"#, id(*number))).collect();
        let directory = directory(&rules, &lines);
        let map: HashMap<u8, &String> = records.iter().map(|(number, mail)| (*number, mail)).collect();
        for number in 0..20 {
            let expected = map.get(&number).map_or("null".into(), |mail| format!(r#"{{"mail":"{mail}"}}"#));
            prop_assert_eq!(found(&directory, &id(number)), expected);
        }
    }
}

#[test]
fn a_column_that_nobody_has_is_reported_unless_it_is_known() {
    let columns = ["mail", "departmnt", "Mail", "floor", "costs"].map(String::from).to_vec();
    let rules = DirectoryRules { columns, ..DirectoryRules::default() };
    let found = directory(&rules, &[format!(r#"{{"id":"{ANNA}","floor":null}}"#)]);
    let found: Vec<_> = found.unknown_columns().collect();
    let null = |name: &str| format!("nobody in the directory has the column `{name}`, so it is null");
    let department = null("departmnt") + " (a column of the directory is `department`)";
    assert_eq!(found, [department, null("Mail") + " (a column of the directory is `mail`)", null("costs")]);
    assert_eq!(directory(&rules, &[]).unknown_columns().count(), 0);
}
