#!/usr/bin/env bash
# Deploys vivadrop to Azure for a partner, or updates an existing deployment. It can be run again at any time.
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
package="$here/../dist/linux-x86_64"
group='' location='' parameters='' what_if=''

help() {
  cat <<'TEXT'
Deploys vivadrop to Azure for a partner, or updates an existing deployment. It can be run again at any time.

  infra/deploy.sh --resource-group NAME --parameters FILE [--location REGION] [--package FOLDER] [--what-if]

  --resource-group NAME   resource group of all resources; created if it is missing and --location is given
  --parameters FILE       parameters of infra/partner/mainTemplate.json; start with infra/partner/parameters.example.json
  --location REGION       a region with Flex Consumption: az functionapp list-flexconsumption-locations --output table
  --package FOLDER        output folder of `make package`; default: dist/linux-x86_64
  --what-if               show what would change, and change nothing
  --help                  show this help

Secrets come from the environment and are stored in the vault. Never put them into FILE:

  WEBHOOK_SECRET          whsec_…; if it is not set and the vault has none, a new one is created
  PARTNER_APP_SECRET      client secret of PARTNER_APP_ID; if it is not set, the secret in the vault stays unchanged

Needs az (2.60 or later, after `az login`), func (Azure Functions Core Tools 4), and permission to deploy and to assign
roles in the resource group: Owner, or Contributor with User Access Administrator.
TEXT
}

stop() {
  printf 'stopped: %s\n' "$*" >&2
  exit 1
}

usage() {
  printf '%s; see infra/deploy.sh --help\n' "$*" >&2
  exit 2
}

step() {
  printf '\n== %s\n' "$*"
}

while [ $# -gt 0 ]; do
  case $1 in
    --resource-group | --parameters | --location | --package)
      [ $# -ge 2 ] || usage "$1 needs a value"
      case $1 in
        --resource-group) group=$2 ;;
        --parameters) parameters=$2 ;;
        --location) location=$2 ;;
        --package) package=$2 ;;
      esac
      shift 2
      ;;
    --what-if) what_if=yes; shift ;;
    --help | -h) help; exit 0 ;;
    *) usage "unknown option: $1" ;;
  esac
done

[ -n "$group" ] || usage '--resource-group is missing'
[ -n "$parameters" ] || usage '--parameters is missing'
[ -f "$parameters" ] || usage "file not found: $parameters"
command -v az >/dev/null || stop 'az is not installed: https://learn.microsoft.com/cli/azure/install-azure-cli'
command -v func >/dev/null || stop 'func is not installed: npm install --global azure-functions-core-tools@4'
[ -f "$package/host.json" ] || stop "no package in $package: run make package first"
az account show --output none 2>/dev/null || stop 'az is not signed in: run az login'

# The deployment has the name of the app, the parameter `name`, because several apps can be in one resource group.
deployment=$(tr -d '[:space:]' <"$parameters" | sed -n 's/.*"name":{[^}]*"value":"\([^"]*\)".*/\1/p')
deployment=${deployment:-vivadrop}

exists() {
  [ "$(az group exists --name "$group")" = true ]
}

# Prints an output of the last deployment: functionApp, systemTopic, …
output() {
  az deployment group show --resource-group "$group" --name "$deployment" \
    --query "properties.outputs.$1.value" --output tsv
}

# Prints the name of the app's vault, or nothing if it has none yet. It is an output of the last deployment. Without one
# that succeeded, it is the only vault that is named as in the template and belongs to no other app of the group: the
# names of an app and its vault end with the same 13 characters.
find_vault() {
  local deployed uri vaults apps app vault owner found=''
  deployed=$(az deployment group list --resource-group "$group" --query "[?name == '$deployment'].name" --output tsv) ||
    stop 'cannot list the deployments of the resource group'
  if [ -n "$deployed" ]; then
    uri=$(output vaultUri) || stop "cannot read the deployment $deployment"
    app=$(output functionApp) || stop "cannot read the deployment $deployment"
    vault=${uri#https://}
    vault=${vault%%.*}
    # Earlier versions of this script deployed every app as vivadrop, so the deployment can be that of another app.
    if [ -n "$vault" ] && [ "$app" = "$deployment-${vault#vault-}" ]; then
      echo "$vault"
      return
    fi
  fi
  vaults=$(az keyvault list --resource-group "$group" --query "[?starts_with(name, 'vault-')].name" --output tsv) ||
    stop 'cannot list the vaults of the resource group'
  apps=$(az functionapp list --resource-group "$group" --query '[].name' --output tsv) ||
    stop 'cannot list the function apps of the resource group'
  for vault in $vaults; do
    [[ $vault =~ ^vault-[a-z0-9]{13}$ ]] || continue
    owner=$deployment
    for app in $apps; do
      case $app in *"-${vault#vault-}") owner=${app%"-${vault#vault-}"} ;; esac
    done
    [ "$owner" = "$deployment" ] || continue
    [ -z "$found" ] || stop "cannot determine the vault of $deployment, $found or $vault: set WEBHOOK_SECRET to the" \
      'secret that your receiver has'
    found=$vault
  done
  echo "$found"
}

# Whether the vault has a webhook secret. It uses the management API, which needs no role in the vault and returns no secret
# values. `az … show` exits with 3 if the resource does not exist. Any other failure stops the script, because a second secret
# would invalidate the one that the receiver has.
has_webhook_secret() {
  local vault error status=0
  vault=$(find_vault) || exit 1
  [ -n "$vault" ] || return 1
  error=$(az resource show --resource-group "$group" --namespace Microsoft.KeyVault --parent "vaults/$vault" \
    --resource-type secrets --name webhook-secret --api-version 2024-11-01 --output none 2>&1) || status=$?
  case $status in
    0 | 3) return "$status" ;;
    *) stop "cannot determine whether the vault has a webhook secret: set WEBHOOK_SECRET, or get read permission for $vault ($error)" ;;
  esac
}

# Secrets are passed in a file that only this user can read, because other users of the machine can see arguments.
secrets="$(mktemp)"
trap 'rm -f "$secrets"' EXIT
chmod 600 "$secrets"

write_secrets() {
  webhook_secret=${WEBHOOK_SECRET:-}
  if [ -z "$webhook_secret" ] && ! has_webhook_secret; then
    webhook_secret="whsec_$(head -c 32 /dev/urandom | base64 | tr -d '\n')"
    echo 'Creating a webhook secret in the vault. Your receiver needs it:'
    echo '  az keyvault secret show --vault-name VAULT --name webhook-secret --query value --output tsv'
  fi
  local separator=''
  {
    printf '{"contentVersion":"1.0.0.0","parameters":{'
    for pair in "webhookSecret=$webhook_secret" "partnerAppSecret=${PARTNER_APP_SECRET:-}"; do
      local value=${pair#*=}
      case $value in *[\"\\]*) stop "${pair%%=*} contains a quotation mark or a backslash" ;; esac
      if [ -n "$value" ]; then
        printf '%s"%s":{"value":"%s"}' "$separator" "${pair%%=*}" "$value"
        separator=','
      fi
    done
    printf '}}\n'
  } >"$secrets"
}

if [ -n "$what_if" ]; then
  step "1. Resource group $group"
  if ! exists; then
    echo 'It does not exist yet, so Azure cannot show what would change in it.'
    exit 0
  fi
  step '2. Infrastructure: accounts, vault, app, logs, alerts. Azure would change:'
  printf '{"contentVersion":"1.0.0.0","parameters":{}}\n' >"$secrets"
  az deployment group what-if --resource-group "$group" --name "$deployment" \
    --template-file "$here/partner/mainTemplate.json" --parameters "@$parameters" --parameters "@$secrets"
  step '3. Package: these files would be published to the app'
  (cd "$package" && find . -type f | sort)
  step '4. Warm-up and 5. Event Grid subscription would follow'
  exit 0
fi

step "1. Resource group $group"
if exists; then
  echo 'It exists.'
else
  [ -n "$location" ] || usage "the resource group $group does not exist, and --location is missing"
  az group create --name "$group" --location "$location" --output none
  echo "Created in $location."
fi

step '2. Infrastructure: accounts, vault, app, logs, alerts'
write_secrets
az deployment group create --resource-group "$group" --name "$deployment" --output none \
  --template-file "$here/partner/mainTemplate.json" --parameters "@$parameters" --parameters "@$secrets"
app=$(output functionApp)
[ -n "$app" ] || stop 'the deployment has no output functionApp'
# Before the deployment, find_vault can have found the vault of another app, whose first deployment failed before it
# created a function app. The outputs now name the right vault.
if [ -z "$webhook_secret" ] && ! has_webhook_secret; then
  stop 'the vault has no webhook secret yet: run this again'
fi
echo "Function app: $app, vault: $(output vaultUri)"

step "3. Package: publish to $app"
(cd "$package" && func azure functionapp publish "$app" --custom --no-build)

step '4. Warm-up: wait until the host has created the key of the webhook, when it first starts with a blob trigger'
key=''
for try in $(seq 1 "${WARM_UP_TRIES:-30}"); do
  # Only checks that the key exists; the template of the subscription reads its value.
  key=$(az functionapp keys list --resource-group "$group" --name "$app" \
    --query "length(systemKeys.blobs_extension || '')" --output tsv 2>/dev/null || true)
  [ "${key:-0}" -gt 0 ] 2>/dev/null && break
  echo "The key does not exist yet (try $try)."
  sleep "${WARM_UP_PAUSE:-10}"
done
[ "${key:-0}" -gt 0 ] 2>/dev/null ||
  stop "the key blobs_extension was not created: look at the log stream of $app, fix the problem, and run this again"
echo 'The key exists.'

step '5. Event Grid subscription'
az deployment group create --resource-group "$group" --name "$deployment-subscription" --output none \
  --template-file "$here/partner/subscription.json" --parameters \
  "functionApp=$app" "systemTopic=$(output systemTopic)" "hostStorage=$(output hostStorage)" \
  "deadLetterContainer=$(output deadLetterContainer)" "dropContainer=$(output dropContainer)" \
  "stateContainer=$(output stateContainer)"
echo 'The app now receives the events of new blobs.'

step 'Done. Next: run "vivadrop onboard" for each customer, then "vivadrop check"; see docs/partner.md'
