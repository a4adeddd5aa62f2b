# vivadrop in the host of Azure Functions, for Premium plans and Container Apps.
#
#   make package && docker build --tag vivadrop .
#
# The base image is the one that `func init --worker-runtime custom --docker` writes down for custom handlers. It brings the
# host; `dist/` brings the app, checked by `make package`.
FROM mcr.microsoft.com/azure-functions/dotnet:4

# checkov:skip=CKV_DOCKER_2:The platform asks the host itself; a health check of Docker's is not looked at
# checkov:skip=CKV_DOCKER_3:The host of the base image listens on port 80 and starts as root; the platform isolates the container

ENV AzureWebJobsScriptRoot=/home/site/wwwroot \
    AzureFunctionsJobHost__Logging__Console__IsEnabled=true \
    FUNCTIONS_WORKER_RUNTIME=custom

COPY dist/linux-x86_64/ /home/site/wwwroot/
