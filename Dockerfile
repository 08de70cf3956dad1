# Formwork with its bundled model. Build: docker build -t formwork .      Run: docker compose up
#
# The base image and the user are all that the repository's tests cannot carry out without a Docker engine;
# tests/deployment/ runs every RUN line below in a clean virtual environment and asks the health check.
FROM python:3.12-slim

# numba keeps its compiled kernels here, so that a restart of the container does not compile them again.
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    NUMBA_CACHE_DIR=/var/cache/formwork/numba \
    FORMWORK_HOST=0.0.0.0 \
    FORMWORK_PORT=8000

WORKDIR /app

COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY grammar grammar
COPY watermark watermark
COPY engine engine
COPY service service
COPY benchmarks benchmarks
COPY models models

# Extras to add at build time, for example --build-arg EXTRAS='[cuda]'.
ARG EXTRAS=""
RUN python -m pip install --editable ".${EXTRAS}"

RUN useradd --system --create-home --home-dir /var/cache/formwork formwork && chown -R formwork /var/cache/formwork
USER formwork

EXPOSE 8000
# The first start compiles the kernels: give it its time before a failed check counts.
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["formwork", "health"]
ENTRYPOINT ["formwork", "serve"]
CMD ["models/formwork-mini"]
