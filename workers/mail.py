"""The mail worker: the one process that knows where mail goes and makes the links in it."""

from actors import mail
from actors.settings import MailSettings
from db.core.settings import or_exit
from workers import main

if __name__ == "__main__":
    mail.open(or_exit(MailSettings))
    main.run("mail", {"mail"})
