# Image with vivadrop and the Azure Functions host, for Premium plans and Container Apps.
#
#   make package && docker build --tag vivadrop .
#
# The base image is the one that `func init --worker-runtime custom --docker` uses for custom handlers. It contains the host.
# `make package` creates and checks the app in `dist/`.
#
# The base is named by tag, because this repository does not track its digests. For builds that can be repeated, pass the digest
# that `docker buildx imagetools inspect mcr.microsoft.com/azure-functions/dotnet:4` prints, and renew it with every security
# update of the base:
#
#   docker build --build-arg BASE_IMAGE=mcr.microsoft.com/azure-functions/dotnet@sha256:DIGEST --tag vivadrop .
ARG BASE_IMAGE=mcr.microsoft.com/azure-functions/dotnet:4
FROM ${BASE_IMAGE}

# checkov:skip=CKV_DOCKER_7:The default of BASE_IMAGE has a version tag; checkov does not read it
# checkov:skip=CKV_DOCKER_2:The platform monitors the host itself and ignores Docker health checks
# checkov:skip=CKV_DOCKER_3:The host in the base image listens on port 80 and must start as root; the platform isolates the container

ENV AzureWebJobsScriptRoot=/home/site/wwwroot \
    AzureFunctionsJobHost__Logging__Console__IsEnabled=true \
    FUNCTIONS_WORKER_RUNTIME=custom

COPY dist/linux-x86_64/ /home/site/wwwroot/
