#!/usr/bin/env bash
# Sets a partner up in Azure, or brings what is there up to date. It may be run again at any time.
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
deployment=vivadrop
package="$here/../dist/linux-x86_64"
group='' location='' parameters='' what_if=''

help() {
  cat <<'TEXT'
Sets a partner up in Azure, or brings what is there up to date. It may be run again at any time.

  infra/deploy.sh --resource-group NAME --parameters FILE [--location REGION] [--package FOLDER] [--what-if]

  --resource-group NAME   where everything goes; made when --location is given and it is missing
  --parameters FILE       values for infra/partner/mainTemplate.json; infra/partner/parameters.example.json is a start
  --location REGION       a region with Flex Consumption: az functionapp list-flexconsumption-locations --output table
  --package FOLDER        what `make package` laid out; dist/linux-x86_64 if not given
  --what-if               say what would change, and change nothing
  --help                  this

Secrets come from the environment and go into the vault, never into FILE:

  WEBHOOK_SECRET          whsec_…; when it is not set and the vault has none, one is made
  PARTNER_APP_SECRET      the client secret of PARTNER_APP_ID; when it is not set, the vault keeps the one it has

It takes az (2.60 or later, after `az login`) and func (Azure Functions Core Tools 4), and your right to deploy and to give
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
      [ $# -ge 2 ] || usage "$1 wants a value"
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
    *) usage "there is no $1" ;;
  esac
done

[ -n "$group" ] || usage '--resource-group is not given'
[ -n "$parameters" ] || usage '--parameters is not given'
[ -f "$parameters" ] || usage "there is no file $parameters"
command -v az >/dev/null || stop 'az is not installed: https://learn.microsoft.com/cli/azure/install-azure-cli'
command -v func >/dev/null || stop 'func is not installed: npm install --global azure-functions-core-tools@4'
[ -f "$package/host.json" ] || stop "there is no package in $package: run make package first"
az account show --output none 2>/dev/null || stop 'az is not logged in: run az login'

exists() {
  [ "$(az group exists --name "$group")" = true ]
}

# What the earlier deployment, or this one, says: functionApp, systemTopic, …
output() {
  az deployment group show --resource-group "$group" --name "$deployment" \
    --query "properties.outputs.$1.value" --output tsv
}

# Asked of Azure's management, which needs no role in the vault and hands out no value. `az … show` exits with 3 where there
# is no such thing. Where it does not say so nothing is made: a second secret would lock the receiver out.
has_webhook_secret() {
  local vault said status=0
  vault=$(az keyvault list --resource-group "$group" --query "[?starts_with(name, 'vault-')].id" --output tsv) ||
    stop 'the vaults of the resource group cannot be listed'
  [ -n "$vault" ] || return 1
  vault=${vault%%[[:space:]]*}
  said=$(az resource show --ids "$vault/secrets/webhook-secret" --api-version 2024-11-01 --output none 2>&1) || status=$?
  case $status in
    0 | 3) return "$status" ;;
    *) stop "cannot tell whether there is a webhook secret: set WEBHOOK_SECRET, or ask for the right to read $vault ($said)" ;;
  esac
}

# Secrets travel in a file that only we can read: arguments can be seen by everybody on this machine.
secrets="$(mktemp)"
trap 'rm -f "$secrets"' EXIT
chmod 600 "$secrets"

write_secrets() {
  webhook_secret=${WEBHOOK_SECRET:-}
  if [ -z "$webhook_secret" ] && ! has_webhook_secret; then
    webhook_secret="whsec_$(head -c 32 /dev/urandom | base64 | tr -d '\n')"
    echo 'A webhook secret is made and put into the vault; your receiver needs it:'
    echo '  az keyvault secret show --vault-name VAULT --name webhook-secret --query value --output tsv'
  fi
  local separator=''
  {
    printf '{"contentVersion":"1.0.0.0","parameters":{'
    for pair in "webhookSecret=$webhook_secret" "partnerAppSecret=${PARTNER_APP_SECRET:-}"; do
      local value=${pair#*=}
      case $value in *[\"\\]*) stop "${pair%%=*} has a quotation mark or a backslash in it" ;; esac
      if [ -n "$value" ]; then
        printf '%s"%s":{"value":"%s"}' "$separator" "${pair%%=*}" "$value"
        separator=','
      fi
    done
    printf '}}\n'
  } >"$secrets"
}

if [ -n "$what_if" ]; then
  step "1. The resource group $group"
  if ! exists; then
    echo 'It is not there yet, so nothing more can be said: Azure compares with what is there.'
    exit 0
  fi
  step '2. Accounts, vault, app, logs, alerts: what would change'
  printf '{"contentVersion":"1.0.0.0","parameters":{}}\n' >"$secrets"
  az deployment group what-if --resource-group "$group" --name "$deployment" \
    --template-file "$here/partner/mainTemplate.json" --parameters "@$parameters" --parameters "@$secrets"
  step '3. Publish: would put this into the app'
  (cd "$package" && find . -type f | sort)
  step '4. Warm-up, and 5. the Event Grid subscription: would follow'
  exit 0
fi

step "1. The resource group $group"
if exists; then
  echo 'It is there.'
else
  [ -n "$location" ] || usage "the resource group $group is missing, and --location is not given"
  az group create --name "$group" --location "$location" --output none
  echo "Made in $location."
fi

step '2. Accounts, vault, app, logs, alerts'
write_secrets
az deployment group create --resource-group "$group" --name "$deployment" --output none \
  --template-file "$here/partner/mainTemplate.json" --parameters "@$parameters" --parameters "@$secrets"
app=$(output functionApp)
[ -n "$app" ] || stop 'the deployment names no function app'
echo "The app is $app, the vault $(output vaultUri)."

step "3. Publish the package to $app"
(cd "$package" && func azure functionapp publish "$app" --custom --no-build)

step '4. Warm-up: the key of the webhook is made when the host first starts with a blob trigger'
key=''
for try in $(seq 1 "${WARM_UP_TRIES:-30}"); do
  # Only whether it is there: the subscription's template asks for the key itself.
  key=$(az functionapp keys list --resource-group "$group" --name "$app" \
    --query "length(systemKeys.blobs_extension || '')" --output tsv 2>/dev/null || true)
  [ "${key:-0}" -gt 0 ] 2>/dev/null && break
  echo "Not yet (try $try)."
  sleep "${WARM_UP_PAUSE:-10}"
done
[ "${key:-0}" -gt 0 ] 2>/dev/null ||
  stop "the key blobs_extension did not come: look at the log stream of $app, mend it, and run this again"
echo 'It is there.'

step '5. The Event Grid subscription'
az deployment group create --resource-group "$group" --name "$deployment-subscription" --output none \
  --template-file "$here/partner/subscription.json" --parameters \
  "functionApp=$app" "systemTopic=$(output systemTopic)" "hostStorage=$(output hostStorage)" \
  "deadLetterContainer=$(output deadLetterContainer)" "dropContainer=$(output dropContainer)" \
  "stateContainer=$(output stateContainer)"
echo 'New blobs reach the app from now on.'

step 'Done. Next: "vivadrop onboard" for each customer, and "vivadrop check"; docs/partner.md goes through both'
