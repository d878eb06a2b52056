"""The plugin's marker is known here, too, where opbench was installed before it had one."""


def pytest_configure(config):
    if not config.pluginmanager.hasplugin("opbench"):
        config.addinivalue_line("markers", "opbench_cases(operator, ...): made by opbench.testing.cases")
