//! Which tenants are admitted at which paths.

use proptest::prelude::*;

use super::*;

const A: &str = "0cf29e4e-641d-4478-8b66-a40ccb72faf9";
const B: &str = "7da33e17-783a-47e5-b238-dcec69539374";
const C: &str = "9db93126-258e-4f86-9e28-88ed36ac7214";

fn id(text: &str) -> TenantId {
    text.parse().unwrap()
}

fn path(text: &str) -> DropPath {
    text.parse().unwrap()
}

fn tenants(text: &str) -> Tenants {
    text.parse().unwrap()
}

fn may_write(setting: &str, tenant: &str, at: &str) -> bool {
    tenants(setting).may_write(id(tenant), &path(at))
}

#[test]
fn the_short_form_admits_the_guid_as_container_or_folder_in_any_case() {
    for at in [
        A.to_string(),
        format!("{A}/run"),
        format!("datasets/run/VivaInsights/{A}"),
        format!("datasets/{}/run", A.to_uppercase()),
    ] {
        assert!(may_write(A, A, &at), "{at}");
        assert!(may_write(&A.to_uppercase(), A, &at), "{at}");
    }
    for at in ["datasets/run".to_string(), format!("datasets/x{A}"), format!("datasets/{A}x/run")] {
        assert!(!may_write(A, A, &at), "{at}");
    }
}

#[test]
fn the_long_form_admits_its_prefix_and_everything_below_it() {
    let setting = format!("{A}=datasets/a");
    assert!(may_write(&setting, A, "datasets/a"));
    assert!(may_write(&setting, A, "datasets/a/run/VivaInsights"));
    for at in ["datasets", "datasets/ab", "datasets/A", "datasets/b/a", "other/a", "data"] {
        assert!(!may_write(&setting, A, at), "{at}");
    }
}

#[test]
fn the_long_form_may_name_only_a_container() {
    let setting = format!("{A}=customer-a");
    assert!(may_write(&setting, A, "customer-a"));
    assert!(may_write(&setting, A, "customer-a/run"));
    assert!(!may_write(&setting, A, "customer-ab/run"));
    assert!(!may_write(&setting, A, &format!("datasets/{A}")));
}

#[test]
fn a_tenant_may_have_several_prefixes() {
    let setting = format!("{A}=one, {A}=two/a ,{A}");
    for at in ["one/run".to_string(), "two/a/run".into(), format!("three/{A}")] {
        assert!(may_write(&setting, A, &at), "{at}");
    }
    assert!(!may_write(&setting, A, "two/b"));
    assert_eq!(tenants(&setting).ids(), [id(A)]);
}

#[test]
fn a_drop_in_another_tenants_folder_is_refused() {
    let tenants = tenants(&format!("{A},{B}"));
    let at = path(&format!("datasets/run/VivaInsights/{A}"));
    let result = tenants.admit(&at, Some(id(B)));
    let expected = format!(
        "it names the tenant {B}, which may not write there according to TENANTS, but only where a container or folder is \
         named {B}"
    );
    assert_eq!(result.unwrap_err().to_string(), expected);
}

#[test]
fn a_refusal_says_where_the_tenant_may_write_and_names_few_places() {
    let refusal = |setting: &str| tenants(setting).admit(&path("other/run"), Some(id(A))).unwrap_err().to_string();
    assert!(refusal(&format!("{A}=one/a")).ends_with(", but only in `one/a`"));
    let many: Vec<_> = (1..=9).map(|number| format!("{A}=c{number}")).collect();
    assert!(refusal(&many.join(",")).ends_with(", but only in `c1`, in `c2`, in `c3`, or in 6 other places"));
}

#[test]
fn a_tenant_that_is_not_configured_is_refused_everywhere() {
    let at = path(&format!("datasets/{A}/{C}"));
    let result = tenants(&format!("{A},{B}")).admit(&at, Some(id(C)));
    assert_eq!(result, Err(Refusal::UnknownTenant { tenant: id(C) }));
}

#[test]
fn a_drop_without_a_tenant_id_is_refused() {
    let at = path(&format!("datasets/{A}"));
    let result = tenants(A).admit(&at, None).unwrap_err();
    assert_eq!(result.to_string(), "its job metadata has no TenantId");
}

#[test]
fn a_tenant_cannot_drop_in_the_name_of_another_by_naming_a_folder_after_it() {
    let tenants = tenants(&format!("{A},{B}"));
    for at in [format!("{A}/{B}"), format!("datasets/{A}/run/{B}/x")] {
        let at = path(&at);
        let result = tenants.admit(&at, Some(id(B)));
        let (tenant, owner) = (id(B), id(A));
        assert_eq!(result, Err(Refusal::InsideOtherTenant { tenant, owner }));
        assert_eq!(tenants.admit(&at, Some(id(A))), Ok(id(A)));
        assert_eq!(tenants.possible_owners(&at), [id(A)]);
    }
    assert!(tenants.may_write(id(A), &path(&format!("{A}/{B}/{A}"))));
}

#[test]
fn a_folder_named_after_a_tenant_inside_another_tenants_prefix_is_refused() {
    let tenants = tenants(&format!("{A}=customer-a,{B}"));
    let at = path(&format!("customer-a/{B}"));
    assert!(matches!(tenants.admit(&at, Some(id(B))), Err(Refusal::InsideOtherTenant { .. })));
    assert_eq!(tenants.possible_owners(&at), [id(A)]);
}

#[test]
fn an_explicit_prefix_counts_even_inside_another_tenants_folder() {
    let setting = format!("{A},{B}=datasets/{A}/for-b");
    let at = format!("datasets/{A}/for-b/run");
    assert!(may_write(&setting, B, &at));
    assert_eq!(tenants(&setting).possible_owners(&path(&at)), [id(A), id(B)]);
}

#[test]
fn the_containers_are_those_of_prefixes_and_the_guids_of_short_entries() {
    let upper = B.to_uppercase();
    let tenants = tenants(&format!("{A}=customer-a/x,{upper},{A}=customer-a/y"));
    assert_eq!(tenants.containers(), ["customer-a".to_string(), B.to_string()]);
    for name in ["customer-a", B, &upper] {
        assert!(tenants.covers_container(name), "{name}");
    }
    for name in ["customer-ab", A, "datasets", "", "vivadrop-state"] {
        assert!(!tenants.covers_container(name), "{name}");
    }
}

#[test]
fn spaces_around_entries_and_a_trailing_comma_are_ignored() {
    assert_eq!(tenants(&format!(" {A} , {B} = datasets/b/ ,")), tenants(&format!("{A},{B}=datasets/b")));
}

#[test]
fn every_invalid_entry_is_reported() {
    let setting = format!("contoso, {A}, {B}=, {B}=a//b, {B}=a/../b, {B}=datasets/*, =datasets, {A}x");
    let InvalidTenants(errors) = setting.parse::<Tenants>().unwrap_err();
    assert_eq!(errors.len(), 7, "{errors:#?}");
    assert!(errors[0].starts_with("entry 1: expected a GUID"), "{}", errors[0]);
    assert!(errors[2].starts_with("entry 4: expected `container/folder`"), "{}", errors[2]);
    assert!(errors[4].contains("without `*`"), "{}", errors[4]);
}

#[test]
fn a_setting_without_entries_is_an_error() {
    for setting in ["", " ", ",", " , "] {
        let error = setting.parse::<Tenants>().unwrap_err().to_string();
        assert!(error.starts_with("expected a comma-separated list"), "{error}");
    }
}

proptest! {
    /// With short entries only, a path has at most one owner, and only the owner is admitted there.
    #[test]
    fn a_path_has_at_most_one_owner_and_only_the_owner_is_admitted(folders in prop::collection::vec(prop::sample::select(vec![A, B, C, "run", "VivaInsights"]), 1..6)) {
        let tenants = tenants(&format!("{A},{B},{C}"));
        let at = path(&folders.join("/"));
        let owner: Option<TenantId> = folders.iter().find_map(|folder| folder.parse().ok());
        prop_assert_eq!(tenants.possible_owners(&at), owner.into_iter().collect::<Vec<_>>());
        for tenant in [A, B, C].map(id) {
            prop_assert_eq!(tenants.admit(&at, Some(tenant)).is_ok(), owner == Some(tenant));
        }
    }
}

#[test]
fn the_writers_in_a_container_are_the_tenants_admitted_somewhere_in_it() {
    let (a, b): (TenantId, TenantId) = (A.parse().unwrap(), B.parse().unwrap());
    let writers = |text: &str, container: &str| text.parse::<Tenants>().unwrap().writers_in_container(container);
    // A short entry is admitted in a shared container, but never in a container that is another tenant's GUID.
    assert_eq!(writers(&format!("{A},{B}"), "datasets"), [a, b]);
    assert_eq!(writers(&format!("{A},{B}"), A), [a]);
    assert_eq!(writers(&format!("{A}={A},{B}={B}"), A), [a]);
    assert_eq!(writers(&format!("{A}=shared/a,{B}=shared/b"), "shared"), [a, b]);
    assert_eq!(writers(&format!("{A}=shared,{B}"), "shared"), [a]);
    assert_eq!(writers(&format!("{A}=shared/a,{B}"), "shared"), [a, b]);
}
