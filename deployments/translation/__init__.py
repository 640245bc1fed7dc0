"""Translation: the deployment and its engines. It knows neither recognition nor synthesis.

An engine is one file with its options in it and a line in the union below; the key `engine` picks it.
"""

from typing import Annotated

from pydantic import Field

from deployments.translation.apertium import ApertiumOptions
from deployments.translation.deepl import DeepLOptions
from deployments.translation.fake import FakeTranslationOptions

TranslationOptions = Annotated[ApertiumOptions | DeepLOptions | FakeTranslationOptions, Field(discriminator="engine")]
