"""Build settings of Weir's own."""

def _setting_impl(ctx):
    return SettingInfo(value = ctx.build_setting_value)

SettingInfo = provider(fields = ["value"], doc = "The value of a build setting.")

bool_flag = rule(
    implementation = _setting_impl,
    build_setting = config.bool(flag = True),
    doc = "A flag that is true or false on the command line.",
)

string_flag = rule(
    implementation = _setting_impl,
    build_setting = config.string(flag = True),
    doc = "A flag whose value is a string on the command line.",
)
