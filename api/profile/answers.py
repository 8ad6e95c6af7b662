"""What the profile routes give."""

from typing import Annotated

from pydantic import Field

from api.http.responses import ResponseModel
from db.core.json_model import Id, Timestamp


class Profile(ResponseModel):
    """What is known of a person. `avatarUrl` is absolute, and another one with every new picture."""

    user_id: Id
    email: Annotated[str, Field(examples=["customer@example.com"])]
    name: Annotated[str, Field(examples=["Robin Doe"])]
    avatar_url: Annotated[
        str | None, Field(examples=["https://api.shop.example/media/avatars/7c4ab0e5d1f94c2e.webp"])
    ]
    phone: Annotated[str | None, Field(examples=["+4930123456"])]
    address: Annotated[str | None, Field(examples=["1 Long Lane, Oxford"])]
    bio: Annotated[str | None, Field(examples=["Sells chairs."])]
    created_at: Timestamp
    updated_at: Timestamp
