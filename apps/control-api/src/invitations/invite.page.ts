// The page behind an invitation's link: makes an account, or takes the password of the one that is there.
import { linkPage } from '../http/link-page.js';

export const invitePage = linkPage({
  title: 'Join',
  intro: 'You were invited. Choose a password; if you have an account here already, give its password.',
  fields: `<label for="displayName">Your name</label>
<input id="displayName" name="displayName" autocomplete="name" maxlength="100" autofocus aria-describedby="name-note">
<small id="name-note">For a new account.</small>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="new-password" minlength="12" maxlength="256" required
 aria-describedby="password-note">
<small id="password-note">At least 12 characters; a sentence is best.</small>`,
  submit: 'Join',
  call: 'api/v1/invitations/accept',
  doneTitle: 'You are in',
  doneText: 'This link no longer works. Sign in with your mail address and this password.',
});
