# Flows and serving in one image; compose.yaml says which of them a container is.
FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/freshet
COPY requirements.lock /src/
RUN /opt/freshet/bin/pip install --require-hashes -r /src/requirements.lock
COPY pyproject.toml README.md /src/
COPY state /src/state
COPY online_models /src/online_models
COPY flows /src/flows
COPY serving /src/serving
COPY ops /src/ops
RUN /opt/freshet/bin/pip install --no-deps --no-build-isolation /src

FROM python:3.12-slim-bookworm
COPY --from=build /opt/freshet /opt/freshet
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/freshet freshet
ENV PATH=/opt/freshet/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FRESHET_HOME=/var/lib/freshet/home \
    FRESHET_API_KEYS=/var/lib/freshet/keys/keys.json
USER freshet
WORKDIR /var/lib/freshet
# Without keys in it serving says so and ends: `freshet keys create` makes them.
RUN mkdir home keys
VOLUME /var/lib/freshet/home
CMD ["python", "-m", "serving"]
