//! `vivadrop attributes`: a tenant's employee attributes for survey platforms.

mod output;
mod preview;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::preview::PreviewArguments;
use super::{
    CliError,
    definitions::{TenantArguments, edit, print},
};
use crate::{
    attributes::{Attribute, Definitions},
    drop::TenantId,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vivadrop attributes list --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10
  vivadrop attributes preview drop --private-key tenant.pem --attributes attributes.json")]
pub(super) struct AttributesArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the attributes of a tenant
    List(ListArguments),
    /// Add an attribute, and import it for the survey cycles whose drops are still in storage
    Add(AddArguments),
    /// Remove an attribute: receivers delete everything imported under its name
    Remove(RemoveArguments),
    /// Change the ranges of an attribute
    Ranges(RangesArguments),
    /// Change what the roles of the survey platform may do with an attribute
    Roles(RolesArguments),
    /// Compute the attributes of a drop in a local folder; sends nothing
    Preview(Box<PreviewArguments>),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  vivadrop attributes list --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10")]
struct ListArguments {
    /// The customer's Microsoft Entra tenant id
    #[arg(long, value_name = "ID")]
    tenant: TenantId,
    /// Print the definitions as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A default attribute needs only its name (`Collaboration hours` also needs --max); docs/attributes.md lists them. For any other
metric, name its column and the ranges.

Examples:
  vivadrop attributes add --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10 'Email hours'
  vivadrop attributes add --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10 Focus --metric TotalFocusHours --max 5,10,15 \\
    --role Manager=report-filters,report-sections")]
struct AddArguments {
    #[command(flatten)]
    tenant: TenantArguments,
    /// Name of the attribute
    name: String,
    /// Column of the metric [default: that of the default attribute]
    #[arg(long, value_name = "COLUMN")]
    metric: Option<String>,
    /// Unit of the metric; only monthly values in Hour are scaled to weeks [default: Hour]
    #[arg(long, value_name = "UNIT", requires = "metric")]
    unit: Option<String>,
    /// Upper bounds of the first three ranges [default: those of the default attribute]
    #[arg(long, value_name = "A,B,C")]
    max: Option<Bounds>,
    /// Permissions of a role: report-filters, report-sections, comment-filters
    #[arg(long = "role", value_name = "ROLE=PERMISSIONS")]
    roles: Vec<Role>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  vivadrop attributes remove --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10 'Email hours' --dry-run")]
struct RemoveArguments {
    #[command(flatten)]
    tenant: TenantArguments,
    /// Name of the attribute
    name: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  vivadrop attributes ranges --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10 'Email hours' --max 4,7,9.5")]
struct RangesArguments {
    #[command(flatten)]
    tenant: TenantArguments,
    /// Name of the attribute
    name: String,
    /// Upper bounds of the first three ranges
    #[arg(long, value_name = "A,B,C")]
    max: Bounds,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The roles replace those that the attribute has; without --role it has none.

Example:
  vivadrop attributes roles --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10 'Email hours' --role Manager=report-filters")]
struct RolesArguments {
    #[command(flatten)]
    tenant: TenantArguments,
    /// Name of the attribute
    name: String,
    /// Permissions of a role: report-filters, report-sections, comment-filters
    #[arg(long = "role", value_name = "ROLE=PERMISSIONS")]
    roles: Vec<Role>,
}

/// Three numbers with commas between them.
#[derive(Debug, Clone)]
struct Bounds(Vec<Value>);

impl std::str::FromStr for Bounds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| serde_json::from_str(text.trim()).ok().filter(Value::is_number);
        let numbers: Option<Vec<Value>> = text.split(',').map(number).collect();
        numbers.filter(|numbers| numbers.len() == 3).map(Self).ok_or_else(|| "expected three numbers: 5,10,15".into())
    }
}

/// A role and its permissions.
#[derive(Debug, Clone)]
struct Role(String, Vec<String>);

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (role, permissions) = text.split_once('=').ok_or("expected ROLE=PERMISSION,PERMISSION")?;
        let permissions = permissions.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        Ok(Self(role.trim().to_owned(), permissions.collect()))
    }
}

/// Runs a subcommand.
pub(super) async fn attributes(arguments: &AttributesArguments) -> Result<(), CliError> {
    match &arguments.command {
        Command::List(arguments) => print(arguments.tenant, arguments.json, table).await,
        Command::Add(arguments) => edit(&arguments.tenant, |definitions| add(definitions, arguments)).await,
        Command::Remove(RemoveArguments { tenant, name }) => {
            let remove = |definitions: &mut Value| {
                let at = position(definitions, name)?;
                definitions["attributes"].as_array_mut().expect("an array").remove(at);
                Ok(())
            };
            edit(tenant, remove).await
        }
        Command::Ranges(RangesArguments { tenant, name, max }) => {
            edit(tenant, |definitions| set(definitions, name, "max", json!(max.0))).await
        }
        Command::Roles(RolesArguments { tenant, name, roles }) => {
            edit(tenant, |definitions| set(definitions, name, "roles", roles_json(roles))).await
        }
        Command::Preview(arguments) => preview::preview(arguments).await,
    }
}

fn add(definitions: &mut Value, arguments: &AddArguments) -> Result<(), CliError> {
    let AddArguments { name, metric, unit, max, roles, .. } = arguments;
    let mut attribute = json!({"name": name, "roles": roles_json(roles)});
    let members = [
        ("metric", metric.as_ref().map(|metric| json!(metric))),
        ("unit", unit.as_ref().map(|unit| json!(unit))),
        ("max", max.as_ref().map(|max| json!(max.0))),
    ];
    for (member, value) in members.into_iter().filter_map(|(member, value)| Some((member, value?))) {
        attribute[member] = value;
    }
    definitions["attributes"].as_array_mut().expect("an array").push(attribute);
    Ok(())
}

fn set(definitions: &mut Value, name: &str, member: &str, value: Value) -> Result<(), CliError> {
    let at = position(definitions, name)?;
    definitions["attributes"][at][member] = value;
    Ok(())
}

/// The position of the attribute `name`.
fn position(definitions: &Value, name: &str) -> Result<usize, CliError> {
    let attributes = definitions["attributes"].as_array().expect("an array");
    let position = attributes.iter().position(|attribute| attribute["name"] == name);
    position.ok_or_else(|| CliError::Usage(format!("there is no attribute `{name}`: see `vivadrop attributes list`")))
}

/// The roles as a member of an attribute. A role that is given several times has all of its permissions.
fn roles_json(roles: &[Role]) -> Value {
    let mut json = serde_json::Map::new();
    for Role(role, permissions) in roles {
        let all = json.entry(role.as_str()).or_insert_with(|| json!([])).as_array_mut().expect("an array");
        for permission in permissions {
            if !all.iter().any(|other| other == permission.as_str()) {
                all.push(json!(permission));
            }
        }
    }
    json.into()
}

/// The attributes as text for people.
fn table(definitions: &Definitions) -> String {
    let line = |attribute: &Attribute| {
        let roles = attribute.roles.iter().map(|(role, permissions)| format!("; {role}: {}", permissions.join(", ")));
        let Attribute { name, column, unit, .. } = attribute;
        format!("{name}: `{column}`, {unit}; {}{}\n", attribute.labels().join(", "), roles.collect::<String>())
    };
    definitions.attributes.iter().map(line).collect()
}
